//! What a pod may say that says for which operating system it is: nothing that only the other one has.

use kedge_meta::field::{Error, ErrorList};

use super::{At, Report};

const NOT_LINUX: &str = "windows options cannot be set for a linux pod";
const NOT_WINDOWS: &str = "cannot be set for a windows pod";
/// Fields that Windows does not have, in upstream's order: of the pod itself, or of its security context.
const OF_PODS: [(bool, &str); 15] = [
    (false, "appArmorProfile"),
    (false, "seLinuxOptions"),
    (true, "hostUsers"),
    (true, "hostPID"),
    (true, "hostIPC"),
    (false, "seccompProfile"),
    (false, "fsGroup"),
    (false, "fsGroupChangePolicy"),
    (false, "sysctls"),
    (true, "shareProcessNamespace"),
    (false, "runAsUser"),
    (false, "runAsGroup"),
    (false, "supplementalGroups"),
    (false, "supplementalGroupsPolicy"),
    (false, "seLinuxChangePolicy"),
];
const OF_CONTAINERS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// The system of the pod, and what it does not have.
pub(super) fn operating_system(spec: &At<'_>, errors: &mut ErrorList) {
    let os = spec.child("os");
    if !os.is_set() {
        return;
    }
    let name = os.child("name");
    match name.text() {
        "linux" => linux(spec, errors),
        "windows" => windows(spec, errors),
        _ if errors.need_text(&name) => {
            errors.push(Error::not_supported(&os.path, name.text(), &["linux", "windows"]));
        }
        _ => {}
    }
}

fn linux(spec: &At<'_>, errors: &mut ErrorList) {
    let contexts = std::iter::once(spec.child("securityContext")).chain(contexts(spec));
    let options = contexts.map(|context| context.child("windowsOptions"));
    errors.extend(options.filter(At::is_set).map(|options| options.forbidden(NOT_LINUX)));
}

fn windows(spec: &At<'_>, errors: &mut ErrorList) {
    let context = spec.child("securityContext");
    for (of_pod, field) in OF_PODS {
        let at = if of_pod { spec.child(field) } else { context.child(field) };
        let set = match field {
            "hostPID" | "hostIPC" => at.is_true(),
            "sysctls" => at.len() > 0,
            _ => at.is_set(),
        };
        if set {
            errors.push(at.forbidden(NOT_WINDOWS));
        }
    }
    for context in contexts(spec) {
        let fields = OF_CONTAINERS.into_iter().map(|field| context.child(field));
        errors.extend(fields.filter(At::is_set).map(|at| at.forbidden(NOT_WINDOWS)));
    }
}

/// Containers that are processes of a Windows host: either all of a pod or none, and in the network of the host.
pub(super) fn host_process(spec: &At<'_>, errors: &mut ErrorList) {
    fn of<'a>(context: &At<'a>) -> At<'a> {
        context.child("windowsOptions").child("hostProcess")
    }
    let whole = of(&spec.child("securityContext")).flag();
    let (mut all, mut on_host) = (0, 0);
    for context in contexts(spec) {
        let own = of(&context);
        all += 1;
        if let (Some(whole), Some(flag)) = (whole, own.flag())
            && whole != flag
        {
            errors.push(
                own.invalid(format!("pod hostProcess value must be identical if both are specified, was {whole}")),
            );
        }
        on_host += usize::from(own.flag().or(whole) == Some(true));
    }
    if on_host == 0 {
        return;
    }
    if on_host != all {
        errors.push(Error::invalid(
            &spec.path,
            "",
            "If pod contains any hostProcess containers then all containers must be HostProcess containers",
        ));
    }
    if !spec.child("hostNetwork").is_true() {
        let path = spec.path.child("hostNetwork");
        errors.push(Error::invalid(
            &path,
            false,
            "hostNetwork must be true if pod contains any hostProcess containers",
        ));
    }
}

/// The security contexts of all containers.
fn contexts<'a>(spec: &At<'a>) -> impl Iterator<Item = At<'a>> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| spec.child(list));
    lists.into_iter().flat_map(|list| list.items().collect::<Vec<_>>()).map(|one| one.child("securityContext"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(spec: Value) -> Vec<String> {
        let (object, mut errors) = (json!({ "spec": spec }), ErrorList::new());
        operating_system(&At::field(&object, "spec"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_containers_of_a_pod_are_processes_of_the_host_or_none_is() {
        let said = |whole: Value, own: [Value; 2], network: bool| {
            let containers = own.map(|flag| json!({"securityContext": {"windowsOptions": {"hostProcess": flag}}}));
            let spec = json!({"securityContext": {"windowsOptions": {"hostProcess": whole}}, "hostNetwork": network,
                "containers": containers});
            let (object, mut errors) = (json!({ "spec": spec }), ErrorList::new());
            host_process(&At::field(&object, "spec"), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(said(Value::Null, [json!(false), Value::Null], false), Vec::<String>::new());
        assert_eq!(said(json!(true), [json!(true), Value::Null], true), Vec::<String>::new());
        let network = "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers";
        assert_eq!(said(json!(true), [Value::Null, Value::Null], false), [network]);
        assert_eq!(
            said(json!(true), [json!(false), Value::Null], true),
            [
                "spec.containers[0].securityContext.windowsOptions.hostProcess: Invalid value: false: pod hostProcess value \
                 must be identical if both are specified, was true",
                "spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be HostProcess \
                 containers",
            ]
        );
    }

    #[test]
    fn a_pod_says_nothing_that_its_system_does_not_have() {
        let containers = json!([{"name": "c", "securityContext": {"privileged": false, "runAsNonRoot": true,
            "windowsOptions": {}}}]);
        let context = json!({"runAsUser": 1, "runAsNonRoot": true, "sysctls": []});
        let spec = |os: &str| {
            json!({"os": {"name": os}, "hostUsers": true, "hostPID": false, "securityContext": context,
                "containers": containers})
        };
        assert_eq!(
            said(spec("windows")),
            [
                "spec.hostUsers: Forbidden: cannot be set for a windows pod",
                "spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
                "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
            ]
        );
        let options = "spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod";
        assert_eq!(said(spec("linux")), [options]);
        assert_eq!(said(spec("plan9")).len(), 1);
        assert_eq!(said(json!({"containers": containers, "hostPID": true})), Vec::<String>::new());
    }
}
