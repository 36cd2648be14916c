//! How the database proves that it is the one.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject as _};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

/// Encryption with a certificate that is for the host's name and that one of the roots vouches for.
pub(super) fn connector(roots: Option<&[u8]>) -> Result<MakeRustlsConnect, StoreError> {
    let mut store = RootCertStore::empty();
    match roots {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let wrong = |error: &dyn std::fmt::Display| StoreError::invalid(format!("certificates: {error}"));
                store.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
            }
        }
        // Those of the system that cannot be read vouch for nothing.
        None => drop(store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if store.is_empty() {
        return Err(StoreError::invalid("certificates: there are none that could vouch for the database"));
    }
    // Named, and not left to the features of others: two of them in one program would be a panic.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| StoreError::invalid(error.to_string()))?;
    let mut config = config.with_root_certificates(store).with_no_client_auth();
    // For `sslnegotiation=direct`.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}
