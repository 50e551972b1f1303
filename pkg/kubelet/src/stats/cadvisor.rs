//! `/metrics/cadvisor`: what dashboards draw of containers and of the machine, by the names and labels that cAdvisor gives.

use super::disk;
use super::exposition::{Sample, escaped, family, seconds};
use super::groups::{AllGroups, Group};
use crate::node::MachineInfo;

type Value = fn(&Group) -> Option<String>;

/// Metrics with one value a group.
const PLAIN: [(&str, &str, &str, Value); 24] = [
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", |g| {
        limited(g).map(|cpu| cpu.periods.to_string())
    }),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.", |g| {
        limited(g).map(|cpu| cpu.throttled_periods.to_string())
    }),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        |g| limited(g).map(|cpu| seconds(cpu.throttled)),
    ),
    ("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.", |g| {
        g.detail.cpu.map(|cpu| seconds(cpu.system))
    }),
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", |g| {
        g.detail.cpu.map(|cpu| seconds(cpu.user))
    }),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", |g| memory(g, |m| m.cache)),
    ("container_memory_failcnt", "counter", "Number of memory usage hits limits", |g| memory(g, |m| m.limit_reached)),
    ("container_memory_kernel_usage", "gauge", "Size of kernel memory allocated in bytes.", |g| {
        memory(g, |m| m.kernel)
    }),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", |g| {
        memory(g, |m| m.mapped_file)
    }),
    ("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes", |g| {
        g.detail.memory?.max_usage.map(|n| n.to_string())
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", |g| memory(g, |m| m.rss)),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", |g| memory(g, |m| m.swap)),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |g| memory(g, |m| m.usage),
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |g| memory(g, |m| m.working_set)),
    ("container_oom_events_total", "counter", "Count of out of memory events observed for the container", |g| {
        memory(g, |m| m.oom_kills)
    }),
    ("container_processes", "gauge", "Number of processes running inside the container.", |g| {
        g.detail.pids.map(|pids| pids.processes.to_string())
    }),
    ("container_threads", "gauge", "Number of threads running inside the container", |g| {
        g.detail.pids.map(|pids| pids.threads.to_string())
    }),
    (
        "container_threads_max",
        "gauge",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        |g| g.detail.pids.map(|pids| pids.limit.unwrap_or_default().to_string()),
    ),
    ("container_spec_cpu_period", "gauge", "CPU period of the container.", |g| {
        g.detail.cpu?.period.map(|n| n.to_string())
    }),
    ("container_spec_cpu_quota", "gauge", "CPU quota of the container.", |g| {
        g.detail.cpu?.quota.map(|n| n.to_string())
    }),
    ("container_spec_cpu_shares", "gauge", "CPU share of the container.", |g| {
        g.detail.cpu?.shares.map(|n| n.to_string())
    }),
    ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", |g| {
        memory(g, |m| m.limit.unwrap_or_default())
    }),
    ("container_spec_memory_swap_limit_bytes", "gauge", "Memory swap limit for the container.", |g| memory(g, |_| 0)),
    ("container_spec_memory_reservation_limit_bytes", "gauge", "Memory reservation limit for the container.", |g| {
        memory(g, |_| 0)
    }),
];

fn limited(group: &Group) -> Option<crate::cgroups::Cpu> {
    group.detail.cpu.filter(|cpu| cpu.quota.is_some())
}

fn memory(group: &Group, of: fn(&crate::cgroups::Memory) -> u64) -> Option<String> {
    group.detail.memory.as_ref().map(|memory| of(memory).to_string())
}

/// All metrics; without groups where nothing could be read.
pub(crate) fn cadvisor(all: Option<&AllGroups>, machine: &MachineInfo, version: &str) -> String {
    let mut out = String::new();
    let none = AllGroups::default();
    let found = all.unwrap_or(&none);
    let time = Some(found.time.saturating_mul(1_000_000));
    let each = |extra: &'static str, value: Value| {
        found.groups.iter().filter_map(move |group| Some((labels(group, extra), value(group)?, time)))
    };
    let about = format!(
        "cadvisorRevision=\"\",cadvisorVersion=\"\",dockerVersion=\"\",kernelVersion=\"{}\",osVersion=\"{}\"",
        escaped(&machine.kernel_version),
        escaped(&machine.os_image)
    );
    let described = (
        "cadvisor_version_info",
        "gauge",
        "What kernel and system the machine runs, and which version of this reads it",
    );
    family(&mut out, &described, [(format!("{about},version=\"{}\"", escaped(version)), "1".to_owned(), None)]);
    let used = ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.");
    family(&mut out, &used, each(",cpu=\"total\"", |g| g.detail.cpu.map(|cpu| seconds(cpu.usage))));
    for (name, kind, help, value) in PLAIN {
        family(&mut out, &(name, kind, help), each("", value));
    }
    let started = ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.");
    let since = |g: &Group| (g.started > 0).then(|| (g.started / 1_000_000_000).to_string());
    family(&mut out, &started, each("", since));
    let seen = ("container_last_seen", "gauge", "Last time a container was seen by the exporter");
    let now = (found.time / 1000).to_string();
    family(&mut out, &seen, found.groups.iter().map(|g| (labels(g, ""), now.clone(), time)));
    let failed =
        ("container_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise");
    family(&mut out, &failed, [(String::new(), if all.is_some() { "0" } else { "1" }.to_owned(), None)]);
    faults(&mut out, &found.groups, time);
    devices(&mut out, &found.groups, time);
    disks(&mut out, &found.groups, time);
    interfaces(&mut out, &found.groups, time);
    of_machine(&mut out, machine);
    out
}

/// In the order of their names. What a group has besides goes in between.
fn labels(group: &Group, extra: &str) -> String {
    with(group, extra, "")
}

/// `between` comes before the id, `behind` after the image: labels are sorted.
fn with(group: &Group, between: &str, behind: &str) -> String {
    format!(
        "container=\"{}\"{between},id=\"{}\",image=\"{}\"{behind},name=\"{}\",namespace=\"{}\",pod=\"{}\"",
        escaped(&group.container),
        escaped(&group.id),
        escaped(&group.image),
        escaped(&group.name),
        escaped(&group.namespace),
        escaped(&group.pod)
    )
}

fn faults(out: &mut String, groups: &[Group], time: Option<i64>) {
    let about = ("container_memory_failures_total", "counter", "Cumulative count of memory allocation failures.");
    let samples = groups.iter().filter_map(|group| Some((group, group.detail.memory?))).flat_map(|(group, memory)| {
        [("pgfault", memory.page_faults), ("pgmajfault", memory.major_page_faults)].map(|(kind, count)| {
            let name = format!(",failure_type=\"{kind}\"");
            // Whether they are of the group alone makes no difference here: groups of containers have none below.
            (format!("{},scope=\"hierarchy\"", with(group, &name, "")), count.to_string(), time)
        })
    });
    family(out, &about, samples);
}

fn devices(out: &mut String, groups: &[Group], time: Option<i64>) {
    type Of = fn(&crate::cgroups::Io) -> u64;
    let all: [(&str, &str, Of); 4] = [
        ("container_fs_reads_bytes_total", "Cumulative count of bytes read", |io| io.read_bytes),
        ("container_fs_reads_total", "Cumulative count of reads completed", |io| io.reads),
        ("container_fs_writes_bytes_total", "Cumulative count of bytes written", |io| io.written_bytes),
        ("container_fs_writes_total", "Cumulative count of writes completed", |io| io.writes),
    ];
    for (name, help, of) in all {
        let samples = groups.iter().flat_map(|group| {
            group.detail.io.iter().map(move |io| {
                let device = format!(",device=\"{}\"", escaped(&disk::device(io.major, io.minor)));
                (with(group, &device, ""), of(io).to_string(), time)
            })
        });
        family(out, &(name, "counter", help), samples);
    }
}

fn disks(out: &mut String, groups: &[Group], time: Option<i64>) {
    type Of = fn(&disk::Disk) -> u64;
    let all: [(&str, &str, Of); 4] = [
        ("container_fs_inodes_free", "Number of available Inodes", |disk| disk.inodes_free),
        ("container_fs_inodes_total", "Number of Inodes", |disk| disk.inodes),
        (
            "container_fs_limit_bytes",
            "Number of bytes that can be consumed by the container on this filesystem.",
            |disk| disk.capacity,
        ),
        (
            "container_fs_usage_bytes",
            "Number of bytes that are consumed by the container on this filesystem.",
            |disk| disk.used,
        ),
    ];
    for (name, help, of) in all {
        let samples = groups.iter().flat_map(|group| {
            group.disks.iter().map(move |(device, disk)| {
                (with(group, &format!(",device=\"{}\"", escaped(device)), ""), of(disk).to_string(), time)
            })
        });
        family(out, &(name, "gauge", help), samples);
    }
}

fn interfaces(out: &mut String, groups: &[Group], time: Option<i64>) {
    type Of = fn(&super::network::Interface) -> u64;
    let all: [(&str, &str, Of); 8] = [
        ("container_network_receive_bytes_total", "Cumulative count of bytes received", |i| i.received.bytes),
        ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |i| {
            i.received.errors
        }),
        (
            "container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
            |i| i.received.dropped,
        ),
        ("container_network_receive_packets_total", "Cumulative count of packets received", |i| i.received.packets),
        ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |i| i.sent.bytes),
        ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", |i| {
            i.sent.errors
        }),
        (
            "container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
            |i| i.sent.dropped,
        ),
        ("container_network_transmit_packets_total", "Cumulative count of packets transmitted", |i| i.sent.packets),
    ];
    for (name, help, of) in all {
        let samples = groups.iter().flat_map(|group| {
            group.network.iter().map(move |interface| {
                let name = format!(",interface=\"{}\"", escaped(&interface.name));
                (with(group, "", &name), of(interface).to_string(), time)
            })
        });
        family(out, &(name, "counter", help), samples);
    }
}

fn of_machine(out: &mut String, machine: &MachineInfo) {
    let identity = format!(
        "boot_id=\"{}\",machine_id=\"{}\",system_uuid=\"{}\"",
        escaped(&machine.boot_id),
        escaped(&machine.machine_id),
        escaped(&machine.system_uuid)
    );
    let all = [
        ("machine_cpu_cores", "Number of logical CPU cores.", machine.cpus),
        ("machine_cpu_physical_cores", "Number of physical CPU cores.", machine.physical_cores),
        ("machine_cpu_sockets", "Number of CPU sockets.", machine.sockets),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", machine.memory),
        ("machine_swap_bytes", "Amount of swap memory available on the machine.", machine.swap),
    ];
    for (name, help, value) in all {
        let sample: Sample = (identity.clone(), value.to_string(), None);
        family(out, &(name, "gauge", help), [sample]);
    }
    let failed =
        ("machine_scrape_error", "gauge", "1 if there was an error while getting machine metrics, 0 otherwise.");
    family(out, &failed, [(String::new(), "0".to_owned(), None)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::{Cpu, Detail, Io, Memory, Pids};
    use crate::stats::network::{Direction, Interface};

    #[test]
    fn metrics_have_cadvisors_names_and_labels() {
        let group = Group {
            id: "/kubepods/podu/c1".into(),
            name: "c1".into(),
            image: "i:1".into(),
            container: "web".into(),
            namespace: "shop".into(),
            pod: "web-0".into(),
            started: 3_000_000_000,
            detail: Detail {
                cpu: Some(Cpu { usage: 1_500_000_000, quota: Some(50_000), periods: 7, ..Cpu::default() }),
                memory: Some(Memory { working_set: 4096, page_faults: 9, ..Memory::default() }),
                pids: Some(Pids { processes: 2, threads: 5, limit: None }),
                io: vec![Io { major: 4095, minor: 1, read_bytes: 11, ..Io::default() }],
            },
            network: vec![Interface {
                name: "eth0".into(),
                received: Direction { bytes: 77, ..Direction::default() },
                ..Interface::default()
            }],
            disks: vec![("/dev/x".into(), disk::Disk { used: 12, ..disk::Disk::default() })],
        };
        let all = AllGroups { groups: vec![group, Group { id: "/".into(), ..Group::default() }], time: 10_000 };
        let machine = MachineInfo { cpus: 4, memory: 1 << 30, ..MachineInfo::default() };
        let text = cadvisor(Some(&all), &machine, "v1");
        let own = "name=\"c1\",namespace=\"shop\",pod=\"web-0\"";
        let id = "id=\"/kubepods/podu/c1\",image=\"i:1\"";
        for line in [
            format!(
                "container_cpu_usage_seconds_total{{container=\"web\",cpu=\"total\",{id},{own}}} 1.500000000 10000"
            ),
            format!("container_cpu_cfs_periods_total{{container=\"web\",{id},{own}}} 7 10000"),
            format!("container_memory_working_set_bytes{{container=\"web\",{id},{own}}} 4096 10000"),
            format!(
                "container_memory_failures_total{{container=\"web\",failure_type=\"pgfault\",{id},{own},scope=\"hierarchy\"}} 9 10000"
            ),
            format!("container_fs_reads_bytes_total{{container=\"web\",device=\"4095:1\",{id},{own}}} 11 10000"),
            format!("container_fs_usage_bytes{{container=\"web\",device=\"/dev/x\",{id},{own}}} 12 10000"),
            format!(
                "container_network_receive_bytes_total{{container=\"web\",{id},interface=\"eth0\",{own}}} 77 10000"
            ),
            format!("container_start_time_seconds{{container=\"web\",{id},{own}}} 3 10000"),
            "container_scrape_error 0".into(),
            "machine_cpu_cores{boot_id=\"\",machine_id=\"\",system_uuid=\"\"} 4".into(),
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        assert!(cadvisor(None, &machine, "v1").contains("container_scrape_error 1\n"));
    }
}
