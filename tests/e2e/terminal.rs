//! Terminals: `exec`, `attach`, `run` and `debug` from a real one, over WebSocket and over SPDY.

use crate::support::images::WEB_1;
use crate::support::{Terminal, TestCluster, eventually};

const SIZE: (u16, u16) = (33, 101);

/// kubectl in a terminal.
fn open(cluster: &TestCluster, args: &[&str], websockets: bool) -> Terminal {
    let mut command = cluster.kubectl_command(args);
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets.to_string());
    Terminal::start(&command, SIZE)
}

/// A pod with a shell at a terminal, and a container that only talks.
fn pod(cluster: &TestCluster) {
    cluster.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: shell, image: {WEB_1}, tty: true, stdin: true, args: [\"exec sh\"]}}
  - {{name: talks, image: {WEB_1}, args: [\"trap 'exit 0' TERM; while true; do echo tick; sleep 0.2; done\"]}}
"
    ));
    cluster.ok(&["wait", "--for=condition=Ready", "pod/p", "--timeout=180s"]);
}

/// (container id, restarts) of the shell.
fn shell(cluster: &TestCluster) -> (String, i64) {
    let pod = cluster.json(&["pod", "p"]);
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    let shell = statuses.iter().find(|s| s["name"] == "shell").unwrap();
    assert!(shell["state"].get("running").is_some(), "{shell}");
    (shell["containerID"].as_str().unwrap().to_owned(), shell["restartCount"].as_i64().unwrap())
}

#[test]
fn exec_in_a_terminal() {
    let cluster = TestCluster::node();
    pod(&cluster);
    for websockets in [true, false] {
        let mut terminal = open(&cluster, &["exec", "-it", "p", "-c", "talks", "--", "sh"], websockets);
        terminal.line_until("stty size", "33 101");
        terminal.resize((40, 120));
        terminal.line_until("stty size", "40 120");
        // Ctrl-C reaches what runs in the foreground there, not kubectl.
        terminal.line("echo $((6*7)); tail -f /dev/null");
        terminal.shows("42");
        eventually("a program in the foreground", || {
            let running = cluster.ok(&["exec", "p", "-c", "talks", "--", "ps"]);
            if running.contains("tail -f /dev/null") { Ok(()) } else { Err(running) }
        });
        terminal.keys("\u{3}");
        terminal.line("echo interrupted: $?");
        terminal.shows("interrupted: 130");
        terminal.line("exit 7");
        terminal.shows("command terminated with exit code 7");
        assert_eq!(terminal.ends(), Some(7), "websockets: {websockets}");
    }
    // Without a terminal, too, the code is the command's own.
    let mut terminal = open(&cluster, &["exec", "p", "-c", "talks", "--", "sh", "-c", "exit 9"], true);
    assert_eq!(terminal.ends(), Some(9));
}

#[test]
fn attaching_to_a_running_container() {
    let cluster = TestCluster::node();
    pod(&cluster);
    let before = shell(&cluster);
    for (websockets, size) in [(true, (41, 121)), (false, (42, 122))] {
        let mut terminal = open(&cluster, &["attach", "-it", "p", "-c", "shell"], websockets);
        terminal.line_until("echo $((6*7))", "42");
        terminal.line_until("stty size", "33 101");
        terminal.resize(size);
        terminal.line_until("stty size", &format!("{} {}", size.0, size.1));
        terminal.line(&format!("KEPT=kept-by-{websockets}"));
        terminal.line("echo now $KEPT");
        terminal.shows(&format!("now kept-by-{websockets}"));
        terminal.hang_up();
        assert_eq!(shell(&cluster), before, "who goes leaves the container running");
        let mut again = open(&cluster, &["attach", "-it", "p", "-c", "shell"], !websockets);
        again.line_until("echo still $KEPT", &format!("still kept-by-{websockets}"));
        again.hang_up();
        let mut listening = open(&cluster, &["attach", "p", "-c", "talks"], websockets);
        listening.shows("tick");
        listening.shows("tick");
        listening.hang_up();
    }
    assert_eq!(shell(&cluster), before);
}

#[test]
fn run_and_debug_in_a_terminal() {
    let cluster = TestCluster::node();
    let image = format!("--image={WEB_1}");
    for websockets in [true, false] {
        let run = ["run", "once", &image, "-it", "--rm", "--restart=Never", "--", "exec sh"];
        let mut terminal = open(&cluster, &run, websockets);
        terminal.line_until("stty size", "33 101");
        terminal.line("exit 3");
        terminal.shows("pod \"once\" deleted");
        assert_eq!(terminal.ends(), Some(3), "websockets: {websockets}");
        cluster.wait_for("", &["get", "pods", "-o", "name"]);
    }
    pod(&cluster);
    for websockets in [true, false] {
        let name = format!("helper-{websockets}");
        let args = ["debug", "-it", "p", &image, "--target=talks", "-c", &name, "--profile=general", "--", "sh"];
        let mut terminal = open(&cluster, &args, websockets);
        terminal.line_until("stty size", "33 101");
        // It sees the processes of its target.
        terminal.line_until("ps", "while true; do echo tick");
        terminal.line("exit 0");
        assert_eq!(terminal.ends(), Some(0), "websockets: {websockets}");
        let ended = format!("{{.status.ephemeralContainerStatuses[?(@.name==\"{name}\")].state.terminated.exitCode}}");
        cluster.wait_for("0", &["get", "pod", "p", "-o", &format!("jsonpath={ended}")]);
    }
    assert_eq!(shell(&cluster).1, 0);
}
