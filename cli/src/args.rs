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
  6  `leaked` found keys that can be used, and did not revoke them

Examples:
  export AUTHZ_STORE=keys.sqlite
  authz init
  authz issue --name prod-2026-05 --write products --read orders --include shop=de,ch --expires 90d
  authz list --status active
  authz rotate key_3jWz9Qb2Lx --overlap 24h
  authz suspend key_3jWz9Qb2Lx --reason 'under investigation'
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
    Settings(SettingsArgs),
    /// Issue a key; it is printed once, alone on standard output
    #[command(after_help = "\
Examples:
  authz issue --name ci --read bundles | vault kv put secret/ci key=-
  authz issue --name office --write ledger --ip 10.0.0.0/8 --expires 2027-01-01
  authz issue --name erp --owner acct-7 --label env=prod --role shop-partner
  authz issue --name partner --read orders --exclude company=3 --kind runtime --origin https://shop.example")]
    Issue(Issue),
    /// List keys
    List(List),
    /// Show one key
    Show(Show),
    /// Rename a key
    Rename { id: KeyId, name: String },
    /// Change the owner, the note or the labels of a key; parts that are not named are kept
    #[command(after_help = "\
Examples:
  authz meta key_3jWz9Qb2Lx --owner acct-7 --label env=prod --label team=search
  authz meta key_3jWz9Qb2Lx --no-note --remove-label team")]
    Meta(Meta),
    /// Change what a key may do; parts that are not named are kept
    #[command(after_help = "\
Examples:
  authz grant key_3jWz9Qb2Lx --write orders --ip 10.0.0.0/8
  authz grant key_3jWz9Qb2Lx --remove orders --all shop
  authz grant key_3jWz9Qb2Lx --replace --read products")]
    Grant(Grant),
    /// Make, change, list, show or delete roles: named grants that keys refer to
    #[command(after_help = "\
Examples:
  authz role set shop-partner --read products --write orders --exclude company=3
  authz issue --name erp --role shop-partner --include shop=de
  authz role list")]
    Role {
        #[command(subcommand)]
        command: RoleCommand,
    },
    /// Let a key expire at another time, or never
    #[command(after_help = "\
Examples:
  authz expiry key_3jWz9Qb2Lx 90d
  authz expiry key_3jWz9Qb2Lx 2027-01-01T12:00:00Z
  authz expiry key_3jWz9Qb2Lx never")]
    Expiry {
        id: KeyId,
        /// When it expires: 90d, 12h, 1y, 2027-01-01, 2027-01-01T12:00:00Z or never
        #[arg(value_name = "TIME")]
        expires: String,
    },
    /// Issue a new secret with the same grant; it is printed once, alone on standard output
    Rotate(Rotate),
    /// Switch keys off until they are resumed
    Suspend {
        #[arg(required = true)]
        ids: Vec<KeyId>,
        /// The reason, for the audit log
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let suspended keys be used again
    Resume {
        #[arg(required = true)]
        ids: Vec<KeyId>,
    },
    /// Revoke keys permanently
    #[command(after_help = "\
Examples:
  authz revoke key_3jWz9Qb2Lx --reason 'the laptop was lost'
  authz revoke --owner acct-7 --reason 'the contract ended'")]
    Revoke {
        #[arg(required_unless_present = "owner")]
        ids: Vec<KeyId>,
        /// All keys of this owner, by one change
        #[arg(long, value_parser = NonEmptyStringValueParser::new(), conflicts_with = "ids")]
        owner: Option<String>,
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
    /// Show how often keys were used, and from where
    Usage(Usage),
    /// Tell of keys that expire soon or that nobody uses, once each, until interrupted
    #[command(after_help = "\
Examples:
  authz watch --expiring 14d --unused 90d
  authz watch --expiring 14d --once --json   # for a job that runs once a day")]
    Watch(Watch),
    /// Import existing keys: a key file, or a CSV file of plain keys, which are hashed
    #[command(after_help = "\
The first line of a CSV file names its columns: key (required), id, name, owner, note, labels, kind, tenant, not_before,
expires_at, roles, read, write, include, exclude, ip, origin. Separate the values of a cell by spaces:
\"shop=de,ch company=1\", \"env=prod team=search\".
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
        /// Write into each key what it may do with its roles, in place of their names
        #[arg(long)]
        expand: bool,
    },
    /// Explain whether a request would be allowed, with the result of every check
    #[command(after_help = "\
Examples:
  authz check --policy policy.json --key-id key_3jWz9Qb2Lx GET /shops/de/orders --from 10.1.2.3
  authz check --policy policy.json --key-stdin POST /products < key.txt")]
    Check(Check),
    /// Find the keys of the store that stand in a text, and name them; secrets are not printed
    #[command(after_help = "\
Any text will do: a log, a dump, an archive that is unpacked into a pipe; of any size, binary too.
A key is recognized by its digest: what only looks like one is not reported.

Examples:
  authz leaked app.log
  git log -p --all | authz leaked --revoke
  kubectl logs deploy/app | authz leaked --json")]
    Leaked(Leaked),
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
    /// Another format for keys of a kind, like 'live=acme_live_{0-9A-Za-z:10}_{0-9A-Za-z:30}{crc32}'; repeat it for
    /// more kinds. The formats of a store cannot be changed later
    #[arg(long = "format-for", value_name = "KIND=FORMAT")]
    pub(crate) formats: Vec<String>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

#[derive(Group)]
pub(crate) struct SettingsArgs {
    #[command(flatten)]
    pub(crate) change: Settings,
    /// Print a rule file for gitleaks that finds the keys of this store
    #[arg(long, conflicts_with_all = ["trufflehog", "dimensions", "require_networks", "directory"])]
    pub(crate) gitleaks: bool,
    /// Print a file of custom detectors for trufflehog that find the keys of this store
    #[arg(long, conflicts_with_all = ["dimensions", "require_networks", "directory"])]
    pub(crate) trufflehog: bool,
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
    /// How old the secret of an expired key may be for `authz expiry` to renew the key: 400d, or never
    #[arg(long, value_name = "TIME")]
    pub(crate) renew_expired_for: Option<String>,
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
    pub(crate) meta: MetaArgs,
    /// Roles that it refers to, beside the grant of its own
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
    pub(crate) roles: Vec<String>,
    #[command(flatten)]
    pub(crate) may: GrantArgs,
    /// The kind of the key, for routes that require one
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// The tenant that it belongs to
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// When it expires: 90d, 12h, 1y, 2027-01-01, 2027-01-01T12:00:00Z or never
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// When it becomes valid, written the same way
    #[arg(long, value_name = "TIME")]
    pub(crate) not_before: Option<String>,
}

/// The metadata of a key.
#[derive(Clone, Group)]
pub(crate) struct MetaArgs {
    /// The owner: an account, a customer or a user of the application
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// A note for people
    #[arg(long)]
    pub(crate) note: Option<String>,
    /// A label: env=prod
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,
}

#[derive(Clone, Group)]
pub(crate) struct Meta {
    pub(crate) id: KeyId,
    #[command(flatten)]
    pub(crate) set: MetaArgs,
    /// It belongs to nobody in particular
    #[arg(long, conflicts_with = "owner")]
    pub(crate) no_owner: bool,
    /// Remove the note
    #[arg(long, conflicts_with = "note")]
    pub(crate) no_note: bool,
    /// Labels to remove
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) remove_label: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum RoleCommand {
    /// Make a role, or replace its grant for all keys that refer to it
    Set {
        name: String,
        #[command(flatten)]
        may: GrantArgs,
    },
    /// List the roles, and how many keys refer to each
    List,
    /// Show one role
    Show { name: String },
    /// Delete a role that no key refers to
    Delete { name: String },
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
    /// Roles that it refers to from now on as well
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',', conflicts_with_all = ["GrantArgs", "remove", "all", "any_ip", "any_origin", "replace"])]
    pub(crate) roles: Vec<String>,
    /// Roles that it refers to no longer
    #[arg(long, value_name = "ROLE", value_delimiter = ',', conflicts_with_all = ["GrantArgs", "remove", "all", "any_ip", "any_origin", "replace"])]
    pub(crate) remove_role: Vec<String>,
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
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) owner: Option<String>,
    /// Only keys with this label: env=prod, or env for any value
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) label: Option<String>,
    /// Only keys that refer to this role
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) role: Option<String>,
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
    Suspended,
    Expired,
    Revoked,
}

impl From<StatusName> for Status {
    fn from(name: StatusName) -> Self {
        match name {
            StatusName::Active => Self::Active,
            StatusName::NotYetValid => Self::NotYetValid,
            StatusName::Suspended => Self::Suspended,
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
    /// When the new key expires: 90d, 2027-01-01 or never [default: it lives as long as the old one was issued for]
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
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
    /// Newer than the record with this number, oldest first
    #[arg(long, value_name = "NUMBER", conflicts_with = "before")]
    pub(crate) after: Option<u64>,
    /// Go on with each record that comes, oldest first, until interrupted; with --json, one object a line
    #[arg(long, conflicts_with_all = ["id", "before"])]
    pub(crate) follow: bool,
    /// Remove what is older than this, at least an hour: 365d. Revoked keys stay revoked
    #[arg(long, value_name = "TIME", conflicts_with_all = ["id", "before", "after", "follow"])]
    pub(crate) prune: Option<String>,
}

#[derive(Group)]
pub(crate) struct Usage {
    /// Of this key only
    pub(crate) id: Option<KeyId>,
    /// On the days since then, in UTC: 30d, 2027-01-01 [default: 30d]
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Show each day
    #[arg(long)]
    pub(crate) days: bool,
}

#[derive(Group)]
pub(crate) struct Watch {
    /// Keys that expire within this time: 14d
    #[arg(long, value_name = "TIME", required_unless_present = "unused")]
    pub(crate) expiring: Option<String>,
    /// Keys that were not used for this time: 90d
    #[arg(long, value_name = "TIME")]
    pub(crate) unused: Option<String>,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1m")]
    pub(crate) every: String,
    /// Look once, and exit
    #[arg(long)]
    pub(crate) once: bool,
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
    /// Import the roles of a key file as well; those of the same name are replaced
    #[arg(long)]
    pub(crate) with_roles: bool,
    #[command(flatten)]
    pub(crate) like: KeyArgs,
}

#[derive(Group)]
pub(crate) struct Leaked {
    /// The file, or - for standard input
    #[arg(value_hint = ValueHint::FilePath, default_value = "-")]
    pub(crate) file: PathBuf,
    /// Revoke the keys that are found; the reason says where
    #[arg(long)]
    pub(crate) revoke: bool,
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
