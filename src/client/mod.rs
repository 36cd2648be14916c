//! The client side: finds an API key, and attaches it to outgoing requests to one origin only.
//!
//! [`KeyFinder`] takes the key from the program, else from an environment variable, else from the [`ConfigFile`].
//! [`AttachLayer`] adds it to each request to the origin of the [`ApiUrl`], and to no other, so that no redirect
//! discloses it. The layer wraps any tower service that takes [`http::Request`]s, such as hyper-util's client or
//! tonic's channel.
//!
//! # Example
//! ```no_run
//! use tower::ServiceBuilder;
//! use tower_authz::client::{ApiUrl, AttachLayer, ConfigFile, KeyFinder};
//!
//! # fn hyper_client() -> tower::util::BoxCloneService<http::Request<()>, http::Response<()>, std::io::Error> {
//! #     tower::util::BoxCloneService::new(tower::service_fn(|_| async { Ok(http::Response::new(())) }))
//! # }
//! let found = KeyFinder::new(ConfigFile::new("acme")?) // ~/.acme/config.json
//!     .variable("ACME_TOKEN") // wins over the file
//!     .default_url(ApiUrl::https("https://api.acme.example")?)
//!     .find()?;
//! let Some(found) = found else { return Err("set ACME_TOKEN, or run: acme auth".into()) };
//! if let Some(warning) = found.warning() {
//!     eprintln!("warning: {warning}");
//! }
//! let client = ServiceBuilder::new()
//!     // Layers that follow redirects or retry stand here: outside.
//!     .layer(AttachLayer::new(found.api_key(), found.api_url())?)
//!     .service(hyper_client());
//! let request = http::Request::get(found.api_url().join("/orders")?).body(())?;
//! # let _ = (client, request);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod api_url;
mod attach;
mod config_file;
mod credentials;
mod disk;
mod fields;
mod find;
mod origin;

pub use self::{
    api_url::ApiUrl,
    attach::{Attach, AttachLayer},
    config_file::ConfigFile,
    credentials::{Credentials, read_key},
    find::KeyFinder,
};
