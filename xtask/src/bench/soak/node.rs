//! Load on a node: pods that run, and streams into them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::control::NAMESPACE;
use super::workers::{Tools, Turn};

/// Two images that differ in their content.
pub const IMAGES: [(&str, &str); 2] = [("kedge.bench/soak:1", "1"), ("kedge.bench/soak:2", "2")];

pub const TURNS: &[(&str, Turn)] = &[
    ("rollouts", |t, i| Box::pin(rollout(t, i))),
    ("jobs", |t, i| Box::pin(job(t, i))),
    ("exec", |t, i| Box::pin(exec(t, i))),
    ("port-forwards", |t, i| Box::pin(port_forward(t, i))),
    ("logs", |t, i| Box::pin(logs(t, i))),
    ("crash loops and failing probes", |t, i| Box::pin(failing(t, i))),
];

const PODS: &str = "/api/v1/namespaces/soak/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/soak/deployments";
const JOBS: &str = "/apis/batch/v1/namespaces/soak/jobs";
const CRON_JOBS: &str = "/apis/batch/v1/namespaces/soak/cronjobs";
const PORT: u16 = 8080;
/// Ends at once when it is told to.
const STAY: &str = "trap 'exit 0' TERM; while true; do sleep 0.5; done";

/// What is there all the time: a pod to reach into, a pod that writes, a cron job, and what pods mount.
pub async fn prepare(tools: &Tools) -> anyhow::Result<()> {
    let content = json!({"metadata": {"name": "content"}, "data": {"file": "content"}});
    tools.api.create("/api/v1/namespaces/soak/configmaps", &content).await?;
    let serve = format!(
        "(while true; do nc -ll -p {PORT} -e cat /dev/zero; done) & \
                         i=0; trap 'exit 0' TERM; while true; do i=$((i+1)); echo line $i; sleep 0.2; done"
    );
    let mut target = pod("target", &serve);
    target["spec"]["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 2});
    tools.api.create(PODS, &target).await?;
    let spec = json!({
        "schedule": "* * * * *", "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
        "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container("exit 0")]}}}},
    });
    tools.api.create(CRON_JOBS, &json!({"metadata": {"name": "every-minute"}, "spec": spec})).await?;
    tools.api.wait(&format!("{PODS}/target"), is_ready).await
}

fn container(script: &str) -> Value {
    json!({"name": "main", "image": IMAGES[0].0, "imagePullPolicy": "Never", "args": [script]})
}

fn pod(name: &str, script: &str) -> Value {
    let spec = json!({"terminationGracePeriodSeconds": 2, "containers": [container(script)]});
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

fn is_ready(pod: Option<&Value>) -> bool {
    let conditions = pod.and_then(|pod| pod["status"]["conditions"].as_array());
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn is_gone(object: Option<&Value>) -> bool {
    object.is_none()
}

/// A deployment is created, scaled, given another image, taken back, and deleted.
async fn rollout(tools: Tools, turn: u64) -> anyhow::Result<()> {
    let (api, name) = (&tools.api, format!("d{turn}"));
    let mut main = container(STAY);
    main["volumeMounts"] =
        json!([{"name": "scratch", "mountPath": "/scratch"}, {"name": "content", "mountPath": "/content"}]);
    main["readinessProbe"] = json!({"exec": {"command": ["cat", "/content/file"]}, "periodSeconds": 1});
    main["livenessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 2});
    let volumes = json!([
        {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "content", "configMap": {"name": "content"}},
    ]);
    let spec = json!({"terminationGracePeriodSeconds": 2, "containers": [main], "volumes": volumes});
    let template = json!({"metadata": {"labels": {"app": name}}, "spec": spec});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template});
    api.create(DEPLOYMENTS, &json!({"metadata": {"name": name}, "spec": spec})).await?;
    let deployment = format!("deployment/{name}");
    let rolled_out = ["-n", NAMESPACE, "rollout", "status", &deployment, "--timeout=120s"];
    tools.kubectl(&rolled_out).await?;
    tools.kubectl(&["-n", NAMESPACE, "scale", &deployment, "--replicas=3"]).await?;
    tools.kubectl(&rolled_out).await?;
    tools.kubectl(&["-n", NAMESPACE, "set", "image", &deployment, &format!("main={}", IMAGES[1].0)]).await?;
    tools.kubectl(&rolled_out).await?;
    tools.kubectl(&["-n", NAMESPACE, "rollout", "undo", &deployment]).await?;
    // Not waited for: the deployment goes in the middle of its rollout.
    api.delete(&format!("{DEPLOYMENTS}/{name}")).await?;
    all_gone(&tools, &format!("app%3D{name}")).await
}

async fn all_gone(tools: &Tools, selector: &str) -> anyhow::Result<()> {
    let none = |list: Option<&Value>| list.is_some_and(|l| l["items"].as_array().is_some_and(Vec::is_empty));
    tools.api.wait(&format!("{PODS}?labelSelector={selector}"), none).await
}

async fn job(tools: Tools, turn: u64) -> anyhow::Result<()> {
    let (api, name) = (&tools.api, format!("j{turn}"));
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [container("echo done; sleep 0.2")]}});
    let spec = json!({"completions": 3, "parallelism": 2, "template": template});
    api.create(JOBS, &json!({"metadata": {"name": name}, "spec": spec})).await?;
    let uri = format!("{JOBS}/{name}");
    let complete = |job: Option<&Value>| job.is_some_and(|j| j["status"]["succeeded"].as_u64() == Some(3));
    api.wait(&uri, complete).await?;
    api.delete(&format!("{uri}?propagationPolicy=Background")).await?;
    all_gone(&tools, &format!("job-name%3D{name}")).await
}

/// One that ends, and one that is cut off; what runs on in the container ends soon by itself.
async fn exec(tools: Tools, turn: u64) -> anyhow::Result<()> {
    let said = tools.kubectl(&["-n", NAMESPACE, "exec", "target", "--", "echo", "hello"]).await?;
    ensure!(said == "hello\n", "exec said {said:?}");
    cut_exec(&tools, turn).await
}

/// Cut off in the middle of its output, or of its waiting, with and without a way in.
pub async fn cut_exec(tools: &Tools, turn: u64) -> anyhow::Result<()> {
    let command = match turn % 3 {
        0 => ["-i", "target", "--", "cat"].as_slice(),
        1 => &["target", "--", "sleep", "15"],
        _ => &["target", "--", "head", "-c", "50000000", "/dev/zero"],
    };
    tools.cut_off(&[&["-n", NAMESPACE, "exec"], command].concat(), Duration::from_millis(600)).await
}

async fn port_forward(tools: Tools, turn: u64) -> anyhow::Result<()> {
    cut_port_forward(&tools, turn).await
}

/// Cut off while bytes that have no end flow.
pub async fn cut_port_forward(tools: &Tools, _: u64) -> anyhow::Result<()> {
    let mut child = tools.start(&["-n", NAMESPACE, "port-forward", "pod/target", &format!(":{PORT}")])?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await??;
    let line = line.context("kubectl forwards nothing")?;
    let local = line.split([':', ' ']).find_map(|word| word.parse::<u16>().ok());
    let local = local.with_context(|| format!("kubectl says {line:?}"))?;
    let mut stream = TcpStream::connect(("127.0.0.1", local)).await?;
    stream.write_all(b"more\n").await?;
    let mut buffer = vec![0; 100_000];
    tokio::time::timeout(Duration::from_secs(30), stream.read_exact(&mut buffer)).await??;
    child.kill().await?;
    Ok(())
}

async fn logs(tools: Tools, _: u64) -> anyhow::Result<()> {
    tools.kubectl(&["-n", NAMESPACE, "logs", "target", "--tail=5"]).await?;
    tools.cut_off(&["-n", NAMESPACE, "logs", "-f", "target", "--tail=50"], Duration::from_secs(1)).await
}

/// A container that fails again and again, and one whose liveness probe does.
async fn failing(tools: Tools, turn: u64) -> anyhow::Result<()> {
    let (crashes, probed) = (format!("crashes{turn}"), format!("probed{turn}"));
    tools.api.create(PODS, &pod(&crashes, "echo failing; exit 1")).await?;
    let mut unhealthy = pod(&probed, STAY);
    unhealthy["spec"]["containers"][0]["livenessProbe"] =
        json!({"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 2});
    tools.api.create(PODS, &unhealthy).await?;
    for name in [&crashes, &probed] {
        let restarted = |pod: Option<&Value>| {
            pod.is_some_and(|p| p["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or_default() >= 1)
        };
        tools.api.wait(&format!("{PODS}/{name}"), restarted).await?;
    }
    for name in [&crashes, &probed] {
        tools.api.delete(&format!("{PODS}/{name}")).await?;
        tools.api.wait(&format!("{PODS}/{name}"), is_gone).await?;
    }
    Ok(())
}
