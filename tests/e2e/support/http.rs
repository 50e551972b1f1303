//! Requests as they are, with curl: what kubectl cannot say, and both versions of HTTP.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::TestCluster;

/// The administrator's way to the API without kubectl.
pub struct Http {
    base: String,
    files: [PathBuf; 3],
}

/// An answer, or what curl says where there was none.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub version: String,
    pub body: String,
    pub error: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }
}

impl Http {
    pub fn of(cluster: &TestCluster) -> Self {
        let config: Value = serde_json::from_str(&cluster.ok(&["config", "view", "--raw", "-o", "json"])).unwrap();
        let server = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        let file = |name: &str, data: &Value| cluster.file(name, &decode(data.as_str().unwrap()));
        Self {
            base: server["server"].as_str().unwrap().to_owned(),
            files: [
                file("ca.crt", &server["certificate-authority-data"]),
                file("client.crt", &user["client-certificate-data"]),
                file("client.key", &user["client-key-data"]),
            ],
        }
    }

    /// Sends a request; `version` is one of curl's options, such as `--http2`.
    pub fn ask(&self, version: &str, path: &str, arguments: &[&str]) -> Answer {
        let [_, certificate, key] = self.files.each_ref().map(|file| file.to_string_lossy());
        let mut all = vec!["--cert", &*certificate, "--key", &*key];
        all.extend(arguments);
        self.ask_as_nobody(version, path, &all)
    }

    /// The same without a certificate.
    pub fn ask_as_nobody(&self, version: &str, path: &str, arguments: &[&str]) -> Answer {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "30", version]);
        command.arg("--cacert").arg(&self.files[0]);
        command.args(["--write-out", "\n%{http_code} %{http_version}"]).args(arguments);
        let out = command.arg(format!("{}{path}", self.base)).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (body, end) = text.rsplit_once('\n').unwrap_or_default();
        let (code, version) = end.split_once(' ').unwrap_or_default();
        Answer {
            code: code.parse().unwrap_or_default(),
            version: version.to_owned(),
            body: body.to_owned(),
            error: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// A request with a JSON body over HTTP/2.
    pub fn send(&self, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        let kind = format!("Content-Type: {kind}");
        self.ask("--http2", path, &["-X", method, "-H", &kind, "--data-binary", body])
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bits = 0_u32;
    let mut count = 0;
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    String::from_utf8(out).unwrap()
}
