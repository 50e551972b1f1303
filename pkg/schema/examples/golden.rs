use kedge_schema::*;
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let (mut ok, mut bad, mut none) = (0, 0, 0);
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for p in files {
        let yaml = p.extension() == Some("yaml".as_ref());
        if !yaml && p.extension() != Some("json".as_ref()) { continue; }
        let bytes = std::fs::read(&p).unwrap();
        let fmt = if yaml { decode::Format::Yaml } else { decode::Format::Json };
        let raw = decode_object(fmt, &bytes, None, &Limits::default()).unwrap().value;
        let Some(av) = raw["apiVersion"].as_str() else { println!("no apiVersion {p:?}"); none += 1; continue };
        let (g, v) = av.split_once('/').unwrap_or(("", av));
        let Some(ty) = kind(g, v, raw["kind"].as_str().unwrap()) else { none += 1; continue };
        match decode_object(fmt, &bytes, Some(ty), &Limits::default()) {
            Ok(d) if d.strict.is_empty() && d.value == raw => ok += 1,
            Ok(d) => { bad += 1; println!("{p:?} strict {:?}", d.strict); diff("", &raw, &d.value); }
            Err(e) => { bad += 1; println!("{p:?} {e}"); }
        }
    }
    println!("identical {ok} different {bad} not-served {none}");
}
fn diff(path: &str, a: &serde_json::Value, b: &serde_json::Value) {
    use serde_json::Value::*;
    match (a, b) {
        (Object(x), Object(y)) => for k in x.keys().chain(y.keys().filter(|k| !x.contains_key(*k))) { diff(&format!("{path}.{k}"), x.get(k).unwrap_or(&Null), y.get(k).unwrap_or(&String("MISSING".into()))) },
        (Array(x), Array(y)) if x.len() == y.len() => for (i, (p, q)) in x.iter().zip(y).enumerate() { diff(&format!("{path}[{i}]"), p, q) },
        _ if a != b => println!("   {path}: {a} -> {b}"),
        _ => {}
    }
}
