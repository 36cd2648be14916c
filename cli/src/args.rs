//! The arguments of the command line.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args as Group, Parser, Subcommand, ValueEnum, ValueHint, builder::NonEmptyStringValueParser};
use clap_complete::Shell;
use tower_authz::{KeyFormat, KeyId, Status};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the store or a file could not be read or written
  2  usage error
  3  key or store not found
  4  the store rejected the change: the key is revoked, the grant is invalid
  5  `check` found that the request would be denied

Examples:
  export AUTHZ_STORE=keys.sqlite
  authz init
  authz issue --name prod-2026-05 --write products --read orders --include shop=de,ch --expires 90d
  authz list --status active
  authz rotate key_3jWz9Qb2Lx --overlap 24h
  authz revoke key_3jWz9Qb2Lx --reason 'the laptop was lost'";

/// Issues, lists, changes, rotates and revokes API keys.
#[derive(Parser)]
#[command(name = "authz", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Args {
    /// The store: the path of a SQLite file, or postgres://user@host/database
    #[arg(long, global = true, env = "AUTHZ_STORE", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) store: Option<PathBuf>,

    /// The actor in the audit log [default: the user who runs it]
    #[arg(long, global = true, env = "AUTHZ_ACTOR", hide_env_values = true, value_name = "ACTOR")]
    pub(crate) actor: Option<String>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create an empty store
    Init(Init),
    /// Show the settings of the store, or change them
    Settings(Settings),
    /// Issue a key; it is printed once, alone on standard output
    #[command(after_help = "\
Examples:
  authz issue --name ci --read bundles | vault kv put secret/ci key=-
  authz issue --name office --write ledger --ip 10.0.0.0/8 --expires 2027-01-01
  authz issue --name partner --read orders --exclude company=3 --kind runtime --origin https://shop.example")]
    Issue(Issue),
    /// List keys
    List(List),
    /// Show one key
    Show(Show),
    /// Rename a key
    Rename { id: KeyId, name: String },
    /// Change what a key may do; parts that are not named are kept
    #[command(after_help = "\
Examples:
  authz grant key_3jWz9Qb2Lx --write orders --ip 10.0.0.0/8
  authz grant key_3jWz9Qb2Lx --remove orders --all shop
  authz grant key_3jWz9Qb2Lx --replace --read products")]
    Grant(Grant),
    /// Issue a new secret with the same grant; it is printed once, alone on standard output
    Rotate(Rotate),
    /// Revoke keys permanently
    Revoke {
        #[arg(required = true)]
        ids: Vec<KeyId>,
        /// The reason, for the audit log
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Delete keys; to keep them in lists, revoke instead
    Delete {
        #[arg(required = true)]
        ids: Vec<KeyId>,
    },
    /// Delete keys that were revoked or expired long ago
    Purge {
        /// How long ago
        #[arg(long, value_name = "TIME", default_value = "365d")]
        dead_for: String,
    },
    /// Show the audit log, newest first
    Audit(Audit),
    /// Import existing keys: a key file, or a CSV file of plain keys, which are hashed
    #[command(after_help = "\
The first line of a CSV file names its columns: key (required), id, name, kind, tenant, not_before, expires_at,
read, write, include, exclude, ip, origin. Separate the values of a cell by spaces: \"shop=de,ch company=1\".
Options apply to lines that do not set the same themselves, and not to key files.

Examples:
  authz import keys.json
  authz import legacy.csv --read products --expires 90d
  pg_dump_keys | authz import --csv - --write orders")]
    Import(Import),
    /// Write all keys as a key file: digests, never keys
    Export {
        /// The output file [default: standard output]
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Explain whether a request would be allowed, with the result of every check
    #[command(after_help = "\
Examples:
  authz check --policy policy.json --key-id key_3jWz9Qb2Lx GET /shops/de/orders --from 10.1.2.3
  authz check --policy policy.json --key-stdin POST /products < key.txt")]
    Check(Check),
    /// Show the replicas of a store in PostgreSQL: the changes that they applied, and what is left of their leases
    Replicas,
    /// Migrate the store to the schema of this version; run it before the new version serves
    Migrate,
    /// Print a completion script for a shell
    Completions { shell: Shell },
}

#[derive(Group)]
pub(crate) struct Init {
    /// The key format, like 'l64_{a-z0-9:8}_{0-9a-f:32}', or '{ascii:20-64}' for keys of any form
    #[arg(long, default_value_t)]
    pub(crate) format: KeyFormat,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Clone, Group)]
pub(crate) struct Settings {
    /// A dimension beside company and shop, and how its ids are spelt: number, slug or opaque
    #[arg(long = "dimension", value_name = "NAME=GRAMMAR")]
    pub(crate) dimensions: Vec<String>,
    /// Resources that require keys with networks; issuing a key without them warns
    #[arg(long, value_name = "RESOURCE", value_delimiter = ',')]
    pub(crate) require_networks: Vec<String>,
    /// A key file whose `directory` says which entity belongs to which: shops to companies, projects to workspaces
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Group)]
pub(crate) struct Issue {
    /// The display name
    #[arg(long)]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) like: KeyArgs,
}

/// The properties of a new key, other than its name.
#[derive(Clone, Group)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    pub(crate) may: GrantArgs,
    /// The kind of the key, for routes that require one
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// The tenant that it belongs to
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// When it expires: 90d, 12h, 1y, 2027-01-01 or 2027-01-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// When it becomes valid, written the same way
    #[arg(long, value_name = "TIME")]
    pub(crate) not_before: Option<String>,
}

/// The grant of a key.
#[derive(Clone, Group)]
pub(crate) struct GrantArgs {
    /// Resources that it may write, and so read
    #[arg(long, value_name = "RESOURCE", value_delimiter = ',')]
    pub(crate) write: Vec<String>,
    /// Resources that it may read
    #[arg(long, value_name = "RESOURCE", value_delimiter = ',')]
    pub(crate) read: Vec<String>,
    /// Only these entities of a dimension: shop=de,ch
    #[arg(long, value_name = "DIMENSION=ID,..")]
    pub(crate) include: Vec<String>,
    /// All entities of a dimension but these: company=3
    #[arg(long, value_name = "DIMENSION=ID,..")]
    pub(crate) exclude: Vec<String>,
    /// Only from these networks: 10.0.0.0/8
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) ip: Vec<String>,
    /// Only from pages of these origins, for routes that require an origin: https://shop.example
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub(crate) origin: Vec<String>,
}

#[derive(Clone, Group)]
pub(crate) struct Grant {
    pub(crate) id: KeyId,
    #[command(flatten)]
    pub(crate) may: GrantArgs,
    /// Resources that it may neither read nor write any more
    #[arg(long, value_name = "RESOURCE", value_delimiter = ',', conflicts_with = "replace")]
    pub(crate) remove: Vec<String>,
    /// Dimensions whose restriction is removed
    #[arg(long, value_name = "DIMENSION", value_delimiter = ',', conflicts_with = "replace")]
    pub(crate) all: Vec<String>,
    /// From any address
    #[arg(long, conflicts_with = "ip")]
    pub(crate) any_ip: bool,
    /// From any origin
    #[arg(long, conflicts_with = "origin")]
    pub(crate) any_origin: bool,
    /// Replace the whole grant
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Group)]
pub(crate) struct List {
    /// Only keys whose name contains this text
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) kind: Option<String>,
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) tenant: Option<String>,
    #[arg(long)]
    pub(crate) status: Option<StatusName>,
    /// Only keys with a permission for this resource
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) resource: Option<String>,
    /// Only keys that expire within this time: 30d
    #[arg(long, value_name = "TIME")]
    pub(crate) expiring: Option<String>,
    /// Only keys not used for this time, or never: 90d
    #[arg(long, value_name = "TIME")]
    pub(crate) unused: Option<String>,
    /// The maximum number of keys [default: 100 on a terminal, else all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Start after this id, for the next page
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<KeyId>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum StatusName {
    Active,
    NotYetValid,
    Expired,
    Revoked,
}

impl From<StatusName> for Status {
    fn from(name: StatusName) -> Self {
        match name {
            StatusName::Active => Self::Active,
            StatusName::NotYetValid => Self::NotYetValid,
            StatusName::Expired => Self::Expired,
            StatusName::Revoked => Self::Revoked,
        }
    }
}

/// Selects a key by its id, or by the key itself, which is never an argument.
#[derive(Group)]
#[group(multiple = false)]
pub(crate) struct KeySelector {
    /// The id of the key
    #[arg(long, value_name = "ID")]
    pub(crate) key_id: Option<KeyId>,
    /// Read the whole key from standard input; or set AUTHZ_KEY
    #[arg(long)]
    pub(crate) key_stdin: bool,
}

#[derive(Group)]
pub(crate) struct Show {
    #[arg(conflicts_with = "key_stdin")]
    pub(crate) id: Option<KeyId>,
    /// Read the whole key from standard input, to find out which one it is; or set AUTHZ_KEY
    #[arg(long)]
    pub(crate) key_stdin: bool,
}

#[derive(Group)]
pub(crate) struct Rotate {
    pub(crate) id: KeyId,
    /// How long the old key stays valid: 24h [default: until it is revoked]
    #[arg(long, value_name = "TIME")]
    pub(crate) overlap: Option<String>,
}

#[derive(Group)]
pub(crate) struct Audit {
    /// Of this key only
    pub(crate) id: Option<KeyId>,
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: usize,
    /// Older than the record with this number, for the next page
    #[arg(long, value_name = "NUMBER")]
    pub(crate) before: Option<u64>,
    /// Remove what is older than this, at least an hour: 365d. Revoked keys stay revoked
    #[arg(long, value_name = "TIME", conflicts_with_all = ["id", "before"])]
    pub(crate) prune: Option<String>,
}

#[derive(Group)]
pub(crate) struct Import {
    /// The file, or - for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Treat the file as CSV, whatever its name
    #[arg(long)]
    pub(crate) csv: bool,
    /// Import the directory of a key file as well; it replaces that of the store
    #[arg(long)]
    pub(crate) with_directory: bool,
    #[command(flatten)]
    pub(crate) like: KeyArgs,
}

#[derive(Group)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) which: KeySelector,
    /// The policy, as `Policy::export` writes it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) policy: PathBuf,
    /// The method of the request
    pub(crate) method: String,
    /// Its path
    pub(crate) path: String,
    /// The address that it comes from
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<IpAddr>,
    /// A header that it has: 'X-Company-Id: 1'
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
}
