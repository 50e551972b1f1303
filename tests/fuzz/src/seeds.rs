//! What targets begin with, made from what the repository has.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kedge_etcdpb::etcdserverpb as pb;
use kedge_kv::KeyValue;
use kedge_schema::{Limits, decode_yaml, to_yaml};
use kedge_snapshot::State;
use kedge_streams::spdy::headers::Deflater;
use kedge_streams::spdy::{Frame, Headers};
use prost::Message as _;
use serde_json::{Value, json};

type Seeds = Vec<Vec<u8>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

fn texts(texts: &[&str]) -> Seeds {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A zero byte before, which chooses the first.
fn chosen(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [&[0], bytes.as_ref()].concat()
}

fn written(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Examples of all kinds.
fn examples() -> Vec<Value> {
    let read = |text: &str| decode_yaml(text.as_bytes(), &Limits::default()).ok().map(|decoded| decoded.value);
    let mut all: Vec<Value> = file("pkg/registry/tests/objects.yaml").split("\n---\n").filter_map(read).collect();
    for manifest in kedge_manifests::ALL {
        all.extend(manifest.content.split("\n---\n").filter_map(read));
    }
    all.retain(Value::is_object);
    assert!(all.len() > 50, "examples of kinds are where they were");
    all
}

pub fn bodies_json() -> Seeds {
    examples().iter().map(|object| chosen(written(object))).collect()
}

pub fn bodies_yaml() -> Seeds {
    let mut seeds: Seeds = examples().iter().map(|object| chosen(to_yaml(object))).collect();
    seeds.extend(file("pkg/registry/tests/objects.yaml").split("\n---\n").map(chosen));
    let odd = [
        "a: &x {b: 1}\nc: *x\n<<: *x\n",
        "- ? a\n  : b\n",
        "a: |-\n  text\n  more\n",
        "%YAML 1.1\n---\na: 0o17\n",
        "{\"a\": 1e3, b: 1_000, c: 12:30:45, d: .inf}",
    ];
    seeds.extend(odd.iter().map(chosen));
    seeds
}

pub fn bodies_protobuf() -> Seeds {
    let encode = |object: &Value| kedge_schema::encode::object_to_protobuf(object).ok().flatten();
    let conform = |mut object: Value| {
        let ty = kedge_schema::encode::own_type(&object)?;
        kedge_schema::conform(ty, &mut object, &mut Vec::new()).ok()?;
        encode(&object)
    };
    examples().into_iter().filter_map(conform).map(chosen).collect()
}

pub fn definitions() -> Seeds {
    let raw = |definition: &Value| {
        let ty = kedge_schema::encode::own_type(definition)?;
        let mut out = Vec::new();
        kedge_schema::encode::write_protobuf(ty, definition, &mut out).ok()?;
        Some(out)
    };
    definitions_in_json().iter().filter_map(raw).collect()
}

/// Definitions of custom resources that tests have.
fn definitions_in_json() -> Vec<Value> {
    let cases: Vec<Value> = cases("cases.yaml");
    let definition = |case: &Value| {
        let mut spec = json!({"group": "x.example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]});
        if let Some(schema) = schema(case) {
            spec["versions"][0]["schema"] = json!({"openAPIV3Schema": schema});
        }
        for (name, value) in case.get("spec").and_then(Value::as_object).into_iter().flatten() {
            spec[name] = value.clone();
        }
        for (name, value) in case.get("version").and_then(Value::as_object).into_iter().flatten() {
            if let Some(version) = spec["versions"].get_mut(0) {
                version[name] = value.clone();
            }
        }
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.x.example.com"}, "spec": spec})
    };
    cases.iter().map(definition).collect()
}

fn cases(name: &str) -> Vec<Value> {
    let text = file(&format!("pkg/registry/src/strategies/apiextensions/custom_resource_definition/{name}"));
    serde_yaml::from_str(&text).unwrap_or_else(|err| panic!("{name}: {err}"))
}

fn schema(case: &Value) -> Option<Value> {
    let property = |schema: &Value| json!({"type": "object", "properties": {"x": schema}});
    case.get("schema").cloned().or_else(|| case.get("prop").map(property))
}

fn pair(one: &Value, other: &Value) -> Vec<u8> {
    written(&json!([one, other]))
}

pub fn json_patches() -> Seeds {
    let object = json!({"a": {"b": [1, 2, {"c": null}]}, "x/y": 1, "m~n": {"": 0}});
    [
        json!([{"op": "add", "path": "/a/b/1", "value": {"z": []}}, {"op": "remove", "path": "/x~1y"}]),
        json!([{"op": "replace", "path": "/a/b/-1", "value": 7}, {"op": "test", "path": "/m~0n/", "value": 0}]),
        json!([{"op": "copy", "from": "/a", "path": "/a/b/-"}, {"op": "copy", "from": "/a", "path": "/a/b/3/b/-"}]),
        json!([{"op": "move", "from": "/a/b/2", "path": "/c"}, {"op": "add", "path": "/c/c", "value": "x"}]),
        json!([{"op": "add", "path": "", "value": []}, {"op": "replace", "path": "", "value": {}}]),
    ]
    .iter()
    .map(|patch| pair(&object, patch))
    .collect()
}

pub fn merge_patches() -> Seeds {
    let object = json!({"a": {"b": 1, "c": {"d": [1, null]}}, "l": [{"x": 1}], "s": "t"});
    let patches = [
        json!({"a": {"b": null, "c": {"d": null, "e": {"f": null}}}, "l": [{"x": null}], "s": {"y": null, "z": 1}}),
        json!({"a": [1], "l": {"k": "v"}, "s": null}),
        json!([{"a": null}]),
    ];
    patches.iter().map(|patch| pair(&object, patch)).collect()
}

pub fn strategic_patches() -> Seeds {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "1"}, "finalizers": ["a", "b"]},
        "spec": {"containers": [{"name": "a", "image": "i", "env": [{"name": "X", "value": "1"}], "ports": [{"containerPort": 80}]}, {"name": "b"}],
            "tolerations": [{"key": "k"}], "volumes": [{"name": "v", "emptyDir": {}}]}});
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    [
        (&pod, json!({"spec": {"containers": [{"name": "c"}, {"name": "a", "$patch": "delete"}, {"name": "b", "env": [{"name": "Y"}]}]}})),
        (&pod, json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": null}]}})),
        (&pod, json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"], "$setElementOrder/finalizers": ["c", "b"], "labels": {"$patch": "replace", "z": "1"}}})),
        (&pod, json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}, {"$patch": "replace"}]}})),
        (&service, json!({"spec": {"ports": [{"port": 81, "name": "c"}, {"port": 82}]}})),
        (&deployment, json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}})),
    ]
    .iter()
    .map(|(object, patch)| pair(object, patch))
    .collect()
}

pub fn field_sets() -> Seeds {
    let one = r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}},"f:set":{"v:\"a\"":{},"v:1":{},"v:1.0":{}},"f:list":{"i:0":{}}}}"#;
    let other = r#"{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:ports":{"k:{\"port\":81}":{}},"f:set":{"v:true":{},"v:null":{}}}}"#;
    vec![one.into(), format!("{one}\0{other}").into(), format!("{other}\0{one}").into()]
}

fn things() -> [Value; 3] {
    [
        json!({"text": "a", "map": {"k": "a"}, "set": ["p", "q"], "items": [{"name": "x", "value": "a"}, {"name": "y", "labels": {"k": "b"}}]}),
        json!({"map": {"l": "b"}, "set": ["r"], "list": ["p"], "color": {"k": "c"}, "items": [{"name": "x", "protocol": "UDP", "tags": ["t"]}]}),
        json!({"any": {"u": [1, {"v": null}]}, "text": "b", "metadata": {"labels": {"a": "b"}, "finalizers": ["f.example/x"]}}),
    ]
}

pub fn applies() -> Seeds {
    let [a, b, c] = things();
    let steps = |a: &Value, b: &Value, c: &Value| {
        json!([{"by": "one", "do": "apply", "object": a}, {"by": "two", "do": "force", "object": b}, {"by": "one", "do": "update", "object": c},
            {"by": "two", "do": "apply", "object": a}, {"by": "one", "do": "apply", "object": b}])
    };
    let mut seeds = vec![
        chosen(written(&steps(&a, &b, &c))),
        chosen(written(&steps(&c, &a, &a))),
        chosen(written(&steps(&b, &json!({}), &c))),
    ];
    let kinds = [("Pod", 1), ("Deployment", 2), ("Service", 3), ("ConfigMap", 4), ("CustomResourceDefinition", 5)];
    for object in examples() {
        let Some((_, number)) = kinds.iter().find(|(kind, _)| object["kind"] == *kind) else { continue };
        let mut less = object.clone();
        less["spec"] = json!({});
        seeds.push([&[*number], &*written(&steps(&object, &less, &object))].concat());
    }
    seeds
}

pub fn comparisons() -> Seeds {
    let [a, b, c] = things();
    [(&a, &b), (&b, &c), (&c, &a)].iter().map(|(one, other)| chosen(pair(one, other))).collect()
}

pub fn label_selectors() -> Seeds {
    let mut seeds = texts(&[
        "a=b,c in (d,e),!f,g,h!=i,j>4,k<5",
        "app==web,tier notin (a, ),x in ()",
        "example.com/a=b",
        "a in (b)",
    ]);
    let structured = json!({"matchLabels": {"a": "b", "c": ""}, "matchExpressions": [
        {"key": "d", "operator": "In", "values": ["e", ""]}, {"key": "f", "operator": "NotIn", "values": ["g"]},
        {"key": "h", "operator": "Exists"}, {"key": "i", "operator": "DoesNotExist"}, {"key": "j", "operator": "Gt", "values": ["1"]}]});
    seeds.push(written(&structured));
    seeds
}

pub fn field_selectors() -> Seeds {
    texts(&[r"a=b,c!=d\,e,f==g", "metadata.name=x,status.phase!=Running,", r"a=\\\=,b="])
}

pub fn json_paths() -> Seeds {
    let paths = [
        ".spec.replicas",
        "$.a[0]['b']",
        r#".status.conditions[?(@.type=="Ready")].status"#,
        "..a[*].b[-1]",
        r".a\.b['x.y']",
        ".a[?(@.b != 'c')]",
        "{.a}",
    ];
    let mut seeds = texts(&paths);
    seeds.extend(paths.iter().map(|path| {
        [path.as_bytes(), b"\0", &written(&json!({"a": [{"b": [1, {"a": 2}]}], "status": {"conditions": []}}))].concat()
    }));
    seeds
}

pub fn scalars() -> Seeds {
    texts(&[
        "100m",
        "1.5Gi",
        "0.5Ki",
        "-5",
        "129e6",
        "1E",
        "12e-3",
        ".5",
        "0.0000000001",
        "1h30m",
        "1.5s",
        "250ms",
        "1m0.000001s",
        "2024-05-01T02:00:00.9+02:00",
        "2024-05-01T00:00:00.000120Z",
        "0001-01-01T00:00:00Z",
        "aGk=",
        "9223372036854775807",
        "1000Ki",
    ])
}

pub fn patterns() -> Seeds {
    texts(&[
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "(?i:a|b)+?\\d{2,5}\0ab12",
        r"[[:alpha:]\pL\P{Greek}]\b.\B",
        r"\Qa.b\E\x{41}\101(?P<n>x)",
        "a**",
        "(?s).*$\0x\ny",
    ])
}

pub fn expressions() -> Seeds {
    let mut seeds = Vec::new();
    let dir = root().join("pkg/cel/tests/cases");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for line in text.lines() {
            if let Some(expression) = line.strip_prefix("> ") {
                seeds.push(expression.into());
            }
        }
    }
    assert!(seeds.len() > 500, "cases of expressions are where they were");
    seeds
}

pub fn schemas() -> Seeds {
    let object =
        json!({"apiVersion": "x.example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {}, "x": "a"});
    let of = |case: &Value| Some(written(&json!([schema(case)?, object, {"x": 1, "spec": {"a": [1]}}])));
    let mut seeds: Seeds = cases("cases.yaml").iter().filter_map(of).collect();
    let rich = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "required": ["k"],
            "properties": {"k": {"type": "string", "default": "d"}, "v": {"type": "integer", "minimum": 1, "multipleOf": 2}}}},
        "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "pattern": "^a", "maxLength": 3}},
        "n": {"type": "number", "nullable": true, "exclusiveMaximum": true, "maximum": 5}, "p": {"x-kubernetes-int-or-string": true},
        "e": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "d": {"type": "string", "format": "date-time"}, "o": {"oneOf": [{"required": ["x"]}, {"not": {"required": ["y"]}}], "type": "object",
            "properties": {"x": {"type": "string", "enum": ["a", "b"]}}}, "m": {"type": "object", "additionalProperties": {"type": "boolean"}, "default": {"z": true}}}});
    let object = json!({"a": [{"k": "x", "v": 2}, {"v": 3}], "s": ["a", "ab"], "n": null, "p": "5", "e": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}},
        "d": "2026-01-02T03:04:05Z", "o": {"x": "a", "u": 1}});
    seeds.push(written(&json!([rich, object, {"a": [], "s": ["a", "a"]}])));
    seeds
}

pub fn objects() -> Seeds {
    let mut seeds: Seeds = examples().iter().map(|object| pair(object, &json!({"metadata": {"name": "x"}}))).collect();
    seeds.extend(examples().iter().map(|object| pair(object, object)));
    seeds.extend(definitions_in_json().iter().map(|definition| pair(definition, definition)));
    seeds
}

pub fn spdy() -> Seeds {
    let headers = || Headers::default().with("streamtype", "stdin").with("port", "8080");
    let frames = [
        Frame::SynStream { id: 1, fin: false, headers: headers() },
        Frame::SynReply { id: 1, fin: true, headers: Headers::default() },
        Frame::Data { id: 1, fin: false, bytes: Bytes::from_static(b"hello") },
        Frame::SynStream { id: 3, fin: true, headers: headers() },
        Frame::Headers { id: 3, fin: false },
        Frame::Reset { id: 3, status: 5 },
        Frame::Ping { id: 7 },
        Frame::Ignored,
        Frame::GoAway { last: 3 },
    ];
    let Ok(mut deflater) = Deflater::new() else { return Vec::new() };
    let all: Seeds = frames.iter().filter_map(|frame| frame.encode(&mut deflater).ok()).collect();
    (1..=all.len()).map(|count| all[..count].concat()).collect()
}

pub fn spdy_headers() -> Seeds {
    let headers = Headers::default().with("streamtype", "error").with("port", "80").with("requestid", "0");
    let packed = Deflater::new().and_then(|mut deflater| deflater.compress(&headers));
    [Some(headers.to_block()), packed.ok()].into_iter().flatten().collect()
}

pub fn websocket() -> Seeds {
    // Binary, in two parts with a ping between them; a text; the end.
    let masked = |first: u8, content: &[u8]| [&[first, 0x80 | content.len() as u8, 0, 0, 0, 0], content].concat();
    let parts = [
        masked(0x02, b"\0hel"),
        masked(0x89, b"p"),
        masked(0x80, b"lo"),
        masked(0x82, b"more"),
        masked(0x88, &[3, 232]),
    ];
    vec![parts.concat(), parts[3].clone(), masked(0x81, b"text")]
}

fn question(name: &[u8], qtype: u8, flags: [u8; 2], additional: u8) -> Vec<u8> {
    [&[0, 7, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, additional], name, &[0, qtype, 0, 1]].concat()
}

const NAME: &[u8] = b"\x03web\x07default\x03svc\x07cluster\x05local\0";

pub fn dns_queries() -> Seeds {
    let edns = [&*question(NAME, 28, [1, 0], 1), &[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]].concat();
    vec![question(NAME, 1, [1, 0], 0), edns, question(b"\0", 2, [0, 0x10], 0)]
}

pub fn dns_answers() -> Seeds {
    let with = |count: u8, records: &[u8]| {
        let mut message = [&*question(NAME, 1, [0x81, 0x80], 0), records].concat();
        message[7] = count;
        message
    };
    let address = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 43, 0, 5];
    let alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'x', 0xc0, 16];
    vec![with(0, &[]), with(1, &address), with(2, &[alias, address].concat())]
}

pub fn packed() -> Seeds {
    let mut seeds: Seeds = examples().iter().map(written).collect();
    seeds.extend(seeds.clone().iter().filter_map(|plain| kedge_packed::pack(plain)).map(|packed| packed.to_vec()));
    seeds
}

/// Records of the log, as its format describes them.
fn records() -> Seeds {
    let text = |text: &[u8]| [&(text.len() as u32).to_le_bytes(), text].concat();
    let put = |revision: u64, place: u32, lease: i64, key: &[u8], value: &[u8]| {
        let numbers = [
            &revision.to_le_bytes()[..],
            &place.to_le_bytes(),
            &revision.to_le_bytes(),
            &1_u64.to_le_bytes(),
            &lease.to_le_bytes(),
        ]
        .concat();
        [&[1], &*numbers, &text(key), &text(value)].concat()
    };
    let delete =
        |revision: u64, key: &[u8]| [&[2], &revision.to_le_bytes()[..], &0_u32.to_le_bytes(), &text(key)].concat();
    let number = |kind: u8, number: u64| [&[kind], &number.to_le_bytes()[..]].concat();
    vec![
        [number(6, 100), put(2, 0, 0, b"/a", b"1")].concat(),
        [
            [&[3], &5_i64.to_le_bytes()[..], &60_u64.to_le_bytes()].concat(),
            put(3, 0, 5, b"/b", b"2"),
            put(3, 1, 0, b"/c", b""),
        ]
        .concat(),
        delete(4, b"/a"),
        [number(5, 3), number(4, 5)].concat(),
        number(7, 4),
    ]
}

pub fn logs() -> Seeds {
    let framed = |records: &[Vec<u8>]| {
        let frame = |payload: &Vec<u8>| [&(payload.len() as u16).to_le_bytes(), &**payload].concat();
        [vec![1], records.iter().flat_map(frame).collect()].concat()
    };
    let records = records();
    let mut seeds: Seeds = (1..=records.len()).map(|count| framed(&records[..count])).collect();
    seeds.push(framed(&[records.concat()]));
    seeds.extend(seeds.clone().iter().map(|seed| chosen(crate::stored::framed(&seed[1..]))));
    seeds
}

pub fn snapshots() -> Seeds {
    let kv = |n: u64| KeyValue {
        key: format!("/registry/pods/{n:03}").into(),
        value: Bytes::from(vec![b'x'; 40]),
        create_revision: n + 2,
        mod_revision: n + 2,
        version: 1,
        lease: 0,
    };
    let of = |count: u64| {
        let dir = tempfile::tempdir().ok()?;
        let path = dir.path().join("s.db");
        let state = State { revision: 500, kvs: (0..count).map(kv).collect(), leases: vec![(5, 60)] };
        kedge_snapshot::write(&path, &state, &mut |_| {}).ok()?;
        let mut database = std::fs::read(&path).ok()?;
        database.truncate(database.len() - kedge_snapshot::CHECKSUM as usize);
        Some(database)
    };
    [0, 1, 5, 150].into_iter().filter_map(of).collect()
}

pub fn etcd_messages() -> Seeds {
    let key = Bytes::from_static(b"/registry/pods/a");
    let range = pb::RangeRequest {
        key: key.clone(),
        range_end: Bytes::from_static(b"/registry/pods0"),
        limit: 5,
        ..Default::default()
    };
    let put = pb::PutRequest { key: key.clone(), value: Bytes::from_static(b"v"), lease: 7, ..Default::default() };
    let op = |request| pb::RequestOp { request: Some(request) };
    let compare =
        pb::Compare { key, target_union: Some(pb::compare::TargetUnion::ModRevision(3)), ..Default::default() };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(pb::request_op::Request::RequestPut(put.clone()))],
        failure: vec![op(pb::request_op::Request::RequestRange(range.clone()))],
    };
    let nested =
        pb::TxnRequest { success: vec![op(pb::request_op::Request::RequestTxn(txn.clone()))], ..Default::default() };
    let with = |choice: u8, message: Vec<u8>| [vec![choice], message].concat();
    vec![
        with(0, range.encode_to_vec()),
        with(1, put.encode_to_vec()),
        with(3, txn.encode_to_vec()),
        with(3, nested.encode_to_vec()),
    ]
}

pub fn kubeconfigs() -> Seeds {
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", "certificate-authority-data": "LS0tLS1CRUdJTg=="}}],
        "users": [{"name": "u", "user": {"client-certificate-data": "", "client-key-data": "aGk=", "token": "t"}}],
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}]});
    vec![written(&config), to_yaml(&config).into_bytes()]
}

pub fn tokens() -> Seeds {
    vec![vec![0, 0, b'a'], vec![60, 0, b'.', b'.'], b"a.b.c".to_vec(), b"eyJhbGciOiJub25lIn0.e30.".to_vec()]
}

pub fn cni() -> Seeds {
    let conf = json!({"cniVersion": "1.0.0", "name": "kedge", "type": "kedge-cni", "podCIDR": "10.42.0.0/24", "clusterCIDR": "10.42.0.0/16",
        "serviceCIDR": "10.43.0.0/16", "mtu": 1450, "dataDir": "/var/lib/kedge", "runtimeConfig": {"portMappings": [
            {"hostPort": 80, "containerPort": 8080, "protocol": "TCP"}, {"hostPort": 0, "containerPort": 1, "protocol": "udp", "hostIP": "127.0.0.1"}]}});
    let environment =
        "CNI_CONTAINERID=abc\nCNI_IFNAME=eth0\nCNI_NETNS=/run/netns/x\nCNI_ARGS=K8S_POD_NAMESPACE=n;K8S_POD_NAME=p";
    vec![written(&conf), [&*written(&conf), b"\0", environment.as_bytes()].concat()]
}
