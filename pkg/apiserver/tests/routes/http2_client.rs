//! A client that speaks HTTP/2 frame by frame, and so may do what no library lets it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kedge_apiserver::serve;
use kedge_base::{Shutdown, TaskGroup};
use kedge_certs::{Credential, Leaf, LeafRequest, Usage};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::Cluster;

/// Rather a failure than a test that hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Kinds of frames.
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Why a stream or a connection ends.
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// The TLS port of a cluster, until it is dropped.
pub struct Port {
    address: SocketAddr,
    authority: String,
    shutdown: Shutdown,
}

impl Port {
    pub async fn open(cluster: &Cluster) -> Self {
        let now = time::OffsetDateTime::now_utc();
        let names = vec!["127.0.0.1".to_owned()];
        let request = LeafRequest { common_name: "api".into(), organization: None, names, usage: Usage::Server };
        let leaf = cluster.pki.serving("serving", &request, now).unwrap();
        let shown = Arc::new(Credential::new(&leaf).unwrap());
        let tls = Arc::new(serve::tls_config(shown, &cluster.pki.client_ca.certificate).unwrap());
        let listener = Arc::new(TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        tokio::spawn(serve::serve(cluster.server.clone(), listener, tls, TaskGroup::new("port", shutdown.clone())));
        Self { address, authority: cluster.pki.server_ca.certificate.clone(), shutdown }
    }

    /// A connection of whoever has a certificate, or of nobody.
    pub async fn connect(&self, who: Option<&Leaf>) -> Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(roots);
        let mut tls = match who {
            Some(leaf) => {
                let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes()).collect::<Result<_, _>>();
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
                tls.with_client_auth_cert(chain.unwrap(), key).unwrap()
            }
            None => tls.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
        let mut client = Client { stream, out: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() };
        client.frame(SETTINGS, 0, 0, &[]);
        client.flush().await.unwrap();
        client
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// A frame that has come.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Why the stream or the connection ends.
    pub fn code(&self) -> u32 {
        let code = if self.kind == GOAWAY { &self.payload[4..8] } else { &self.payload[..4] };
        u32::from_be_bytes(code.try_into().unwrap())
    }

    /// The code of an answer, of those that are a single byte in HTTP/2's table, or follow the name of it in plain digits.
    pub fn status(&self) -> String {
        match self.payload[0] {
            0x88 => "200".into(),
            0x8d => "404".into(),
            0x48 if self.payload[1] == 0x03 => String::from_utf8_lossy(&self.payload[2..5]).into_owned(),
            // Packed by Huffman's code, in which digits have five or six bits.
            _ => unpacked(&self.payload[2..]),
        }
    }
}

/// Three digits in HTTP/2's Huffman code.
fn unpacked(bytes: &[u8]) -> String {
    let mut bits = bytes[..3].iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1)));
    let mut digit = || {
        let five = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
        if five <= 2 {
            return five;
        }
        (five << 1 | bits.next().unwrap()) - 0x19 + 3
    };
    format!("{}{}{}", digit(), digit(), digit())
}

pub struct Client {
    stream: TlsStream<TcpStream>,
    out: Vec<u8>,
}

impl Client {
    /// Adds a frame to what is sent next.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.out.extend_from_slice(&length[1..]);
        self.out.extend_from_slice(&[kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(payload);
    }

    /// Adds the head of a request; its body ends with it unless it is a POST.
    pub fn request(&mut self, stream: u32, method: &str, path: &str) {
        let ends = if method == "POST" { 0 } else { END_STREAM };
        self.frame(HEADERS, END_HEADERS | ends, stream, &head(method, path));
    }

    pub fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// Sends what was added.
    ///
    /// # Errors
    /// When the server has closed.
    pub async fn flush(&mut self) -> std::io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await?;
        self.stream.flush().await
    }

    /// The next frame; none when the server has closed.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        if frame.kind == PING && frame.flags & ACK == 0 {
            self.frame(PING, ACK, 0, &frame.payload);
            self.flush().await.ok()?;
        }
        Some(frame)
    }

    /// The next frame of a kind; none when the server has closed before.
    ///
    /// # Panics
    /// When neither comes.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        let next = async {
            loop {
                match self.next().await? {
                    frame if frame.kind == kind => return Some(frame),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(HANGS, next).await.expect("the server neither says that nor closes")
    }

    /// Waits until the server has closed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn closed(&mut self) {
        let closed = async { while self.next().await.is_some() {} };
        tokio::time::timeout(HANGS, closed).await.expect("the server does not close");
    }
}

/// The header block of a request, from HTTP/2's table and in plain text.
pub fn head(method: &str, path: &str) -> Vec<u8> {
    let text = |name: u8, value: &str| {
        let mut field = vec![name, u8::try_from(value.len()).unwrap()];
        field.extend_from_slice(value.as_bytes());
        field
    };
    let method = if method == "POST" { 0x83 } else { 0x82 };
    [vec![method, 0x87], text(0x04, path), text(0x01, "h")].concat()
}
