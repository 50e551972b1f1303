//! The files that the kubelet gives to every container, and what it reads before it makes one. All of this blocks.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::HostAlias;
use kedge_cri::v1;

use crate::generate::hosts_file;

pub(super) const HOSTS: &str = "/etc/hosts";

/// The pod's hosts file.
pub(super) struct Hosts {
    pub(super) path: PathBuf,
    pub(super) ips: Vec<String>,
    pub(super) host: String,
    pub(super) domain: String,
    pub(super) aliases: Vec<HostAlias>,
    /// Begins with what the node has.
    pub(super) of_node: bool,
}

/// Which attempt a container is.
pub(super) enum Attempt {
    Known(i32),
    /// One more than the last log in this directory tells.
    AfterLogsIn(PathBuf),
}

/// What is written for one container.
pub(super) struct OwnFiles {
    pub(super) hosts: Option<Hosts>,
    /// Where the container writes its termination message, by its own path and the node's.
    pub(super) termination: Option<(String, PathBuf)>,
    pub(super) restart_count: Attempt,
}

impl OwnFiles {
    /// How the container sees them.
    pub(super) fn mounts(&self) -> Vec<v1::Mount> {
        let hosts = self.hosts.as_ref().map(|hosts| (HOSTS.to_string(), &hosts.path));
        let termination = self.termination.as_ref().map(|(path, file)| (path.clone(), file));
        let mount = |(container_path, host_path): (String, &PathBuf)| v1::Mount {
            container_path,
            host_path: host_path.display().to_string(),
            ..Default::default()
        };
        hosts.into_iter().chain(termination).map(mount).collect()
    }

    /// Writes them; returns the number of the attempt.
    ///
    /// # Errors
    /// The message for the container's waiting state.
    pub(super) fn write(self) -> Result<i32, String> {
        if let Some(hosts) = &self.hosts {
            hosts.write().map_err(|error| format!("cannot write {}: {error}", hosts.path.display()))?;
        }
        if let Some((_, file)) = &self.termination {
            let make = || -> io::Result<()> {
                file.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::File::create(file)?;
                fs::set_permissions(file, fs::Permissions::from_mode(0o666))
            };
            make().map_err(|error| format!("error on creating termination-log file {}: {error}", file.display()))?;
        }
        Ok(self.restart_count.number())
    }
}

impl Hosts {
    fn write(&self) -> io::Result<()> {
        let node = if self.of_node { Some(fs::read_to_string(HOSTS)?) } else { None };
        let text = hosts_file(&self.ips, &self.host, &self.domain, &self.aliases, node.as_deref());
        fs::write(&self.path, text)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o644))
    }
}

impl Attempt {
    fn number(&self) -> i32 {
        let directory = match self {
            Attempt::Known(number) => return *number,
            Attempt::AfterLogsIn(directory) => directory,
        };
        let names = fs::read_dir(directory).into_iter().flatten().flatten();
        let counts = names.filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let (count, _) = name.split_once(".log")?;
            count.parse::<i32>().ok()
        });
        counts.max().map_or(0, |count| count.saturating_add(1))
    }
}
