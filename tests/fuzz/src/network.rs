//! What a container runtime tells the network plug-in.

use kedge_cni::{Invocation, NetConf};

use crate::input;

/// The configuration on standard input and, behind a zero byte, variables of the environment, one a line.
pub fn cni(data: &[u8]) {
    let (conf, environment) = input::halves(data);
    if let Ok(conf) = NetConf::parse(conf)
        && let Ok(settings) = conf.settings()
    {
        assert!(settings.data_dir.is_absolute() && settings.mtu >= 68);
    }
    let Some(environment) = input::text(environment) else { return };
    let variable = |name: &str| {
        let mut pairs = environment.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    if let Ok(invocation) = Invocation::read(variable) {
        // Both become names of files and interfaces.
        for name in [&invocation.container_id, &invocation.ifname] {
            assert!(!name.is_empty() && !name.contains('/') && name != "." && name != "..", "{name:?}");
        }
    }
}
