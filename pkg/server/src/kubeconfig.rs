//! The administrator's kubeconfigs: the one that was asked for, and one for the commands of this binary.

use kedge_certs::{Kubeconfig, Pki, Users};
use tracing::info;

use crate::commands::own_kubeconfig;
use crate::config::ServerConfig;
use crate::error::Error;
use crate::renewal::Renewal;
use crate::token::private_dir;

/// Writes them, now and whenever the certificate in them is another.
///
/// # Errors
/// When that is not possible now.
pub(crate) fn keep(config: &ServerConfig, pki: &Pki, renewal: &Renewal) -> Result<(), Error> {
    let host = match config.bind_address {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        ip if ip.is_ipv6() => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    let server = format!("https://{host}:{}", config.https_port);
    let authority = pki.server_ca.certificate.clone();
    let (path, mode) = (config.kubeconfig.clone(), config.kubeconfig_mode);
    let own = own_kubeconfig(&config.data_dir);
    let admin = pki.client_leaf("client-admin", "system:admin", Some(kedge_auth::MASTERS));
    renewal.keep(admin, move |admin| {
        let user = Users::Certificate(admin);
        let kubeconfig = Kubeconfig { server: &server, certificate_authority: &authority, user };
        private_dir(own.parent().unwrap_or(&own))?;
        kubeconfig.write(&own, 0o600)?;
        kubeconfig.write(&path, mode)?;
        info!(path = %path.display(), "kubeconfig written");
        Ok(())
    })
}
