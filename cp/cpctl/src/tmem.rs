// SPDX-License-Identifier: GPL-2.0

//! The commands about transcendent memory.

use std::num::NonZeroU16;
use std::path::{self, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use cp_core::UserId;
use cp_core::size::{self, SizeError};
use cp_core::tmem::{Counts, GuestView, Kind, Listing, PoolId, PoolView, Selection, Setting};
use cp_core::user_id::UserIdError;
use cp_proto::{Connection, Pools, Reply, Request};
use serde_json::json;

use crate::pages::{lower_verb, unexpected, user_id};
use crate::{Error, Output};

#[derive(Debug, Parser, PartialEq, Eq)]
#[command(bin_name = "cpctl", multicall = true)]
pub enum Command {
    /// What guests have given to the Control Program to keep
    #[command(subcommand)]
    Tmem(Tmem),
}

#[derive(Debug, Subcommand, PartialEq, Eq)]
pub enum Tmem {
    /// Shows pools, what they hold and what is set
    List {
        /// Whose: a user ID or `all`
        #[arg(value_parser = whose, default_value = "all")]
        whose: Whose,
    },
    /// Refuses new pages; those that are there can be got and flushed
    Freeze {
        /// Whose: a user ID or `all`
        #[arg(value_parser = whose)]
        whose: Whose,
    },
    /// Accepts new pages again
    Thaw {
        /// Whose: a user ID or `all`
        #[arg(value_parser = whose)]
        whose: Whose,
    },
    /// Sets something for a guest until it logs off, or for all and those who log on later
    #[command(subcommand)]
    Set(Set),
    /// Empties pools
    Flush(Which),
    /// Unmakes pools
    Destroy(Which),
    /// Stops a guest and writes its pools to a file
    Save(Saved),
    /// Gives a guest that is stopped since `save` the pools of the file, and lets it go on
    Restore(Saved),
    /// How many frames could be had without loss: ephemeral pages, and for `all` what is not used
    Freeable {
        /// Whose: a user ID or `all`
        #[arg(value_parser = whose, default_value = "all")]
        whose: Whose,
    },
}

#[derive(Debug, Subcommand, PartialEq, Eq)]
pub enum Set {
    /// The guest's part of the store, compared with the weights of others
    Weight {
        /// Whose: a user ID or `all`
        #[arg(value_parser = whose)]
        whose: Whose,
        /// From 1 to 65535; 100 is usual
        weight: NonZeroU16,
    },
    /// The most memory that the guest's pages may take
    Cap {
        /// Whose: a user ID or `all`
        #[arg(value_parser = whose)]
        whose: Whose,
        /// A number and K, M or G; 0; or `none`
        #[arg(value_parser = cap)]
        cap: Cap,
    },
    /// Whether new pages are compressed
    Compress {
        /// Whose: a user ID or `all`
        #[arg(value_parser = whose)]
        whose: Whose,
        /// Whether they are
        switch: Switch,
    },
}

/// The pools of a guest in a file.
#[derive(Debug, Args, PartialEq, Eq)]
pub struct Saved {
    /// Whose
    #[arg(value_parser = user_id)]
    user: UserId,

    /// The file; it is for cpd to open
    #[arg(value_parser = absolute)]
    file: PathBuf,
}

/// Which pools.
#[derive(Debug, Args, PartialEq, Eq)]
pub struct Which {
    /// Whose: a user ID or `all`
    #[arg(value_parser = whose)]
    whose: Whose,

    /// Only this one, as `list` names it
    #[arg(long, value_name = "ID", value_parser = pool_id)]
    pool: Option<PoolId>,

    /// Only ephemeral ones
    #[arg(long)]
    ephemeral: bool,

    /// Persistent ones too that hold pages: what the guest has there is lost, and it gets I/O errors
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

/// One guest, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose(Option<UserId>);

fn whose(text: &str) -> Result<Whose, UserIdError> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(Whose(None));
    }
    user_id(text).map(|user| Whose(Some(user)))
}

/// In frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap(Option<u64>);

fn cap(text: &str) -> Result<Cap, SizeError> {
    match text {
        "none" => Ok(Cap(None)),
        "0" => Ok(Cap(Some(0))),
        size => size::pages(size).map(|frames| Cap(Some(frames))),
    }
}

/// As seen from here.
fn absolute(file: &str) -> std::io::Result<PathBuf> {
    path::absolute(file)
}

fn pool_id(text: &str) -> Result<PoolId, std::num::ParseIntError> {
    u32::from_str_radix(text, 16).map(PoolId::from_number)
}

impl Command {
    /// Parses a command line, the verb in either case.
    pub fn new(words: &[String]) -> Result<Self, clap::Error> {
        Self::try_parse_from(lower_verb(words))
    }

    pub fn run(&self, connection: &mut Connection) -> Result<Output, Error> {
        let Self::Tmem(command) = self;
        let request = command.request();
        command.output(match request {
            Request::Save { .. } | Request::Restore { .. } => connection.call_patiently(&request),
            _ => connection.call(&request),
        }?)
    }
}

impl Tmem {
    fn request(&self) -> Request {
        Request::Pools(match *self {
            Self::Save(ref saved) => {
                return Request::Save {
                    user_id: saved.user,
                    path: saved.file.clone(),
                };
            }
            Self::Restore(ref saved) => {
                return Request::Restore {
                    user_id: saved.user,
                    path: saved.file.clone(),
                };
            }
            Self::List { whose } | Self::Freeable { whose } => Pools::List(whose.0),
            Self::Freeze { whose } => Pools::Set(whose.0, Setting::Frozen(true)),
            Self::Thaw { whose } => Pools::Set(whose.0, Setting::Frozen(false)),
            Self::Set(ref set) => set.request(),
            Self::Flush(ref which) => Pools::Flush(which.selection()),
            Self::Destroy(ref which) => Pools::Destroy(which.selection()),
        })
    }

    fn output(&self, reply: Reply) -> Result<Output, Error> {
        Ok(match (self, reply) {
            (Self::Freeable { whose }, Reply::Pools(listing)) => {
                let frames = freeable(&listing, *whose);
                Output {
                    rc: 0,
                    lines: vec![frames.to_string()],
                    json: json!({ "frames": frames }),
                }
            }
            (Self::List { .. }, Reply::Pools(listing)) => Output {
                rc: 0,
                lines: lines(&listing),
                json: json!(listing),
            },
            (_, Reply::Dropped { pages }) => Output {
                rc: 0,
                lines: vec![format!("{pages} pages are gone")],
                json: json!({ "pages": pages }),
            },
            (_, Reply::Saved { pages }) => Output {
                rc: 0,
                lines: vec![format!("{pages} pages are saved")],
                json: json!({ "pages": pages }),
            },
            (_, Reply::Restored { pages, dropped }) => Output {
                rc: 0,
                lines: vec![if dropped == 0 {
                    format!("{pages} pages are restored")
                } else {
                    format!("{dropped} ephemeral pages are gone: the guest is not as it was saved")
                }],
                json: json!({ "pages": pages, "dropped": dropped }),
            },
            (_, Reply::Done) => Output {
                rc: 0,
                lines: Vec::new(),
                json: json!({ "rc": 0 }),
            },
            (_, reply) => return Err(unexpected(reply)),
        })
    }
}

impl Set {
    fn request(&self) -> Pools {
        match *self {
            Self::Weight { whose, weight } => Pools::Set(whose.0, Setting::Weight(weight)),
            Self::Cap { whose, cap } => Pools::Set(whose.0, Setting::Cap(cap.0)),
            Self::Compress { whose, switch } => {
                Pools::Set(whose.0, Setting::Compress(switch == Switch::On))
            }
        }
    }
}

impl Which {
    fn selection(&self) -> Selection {
        Selection {
            whose: self.whose.0,
            pool: self.pool,
            only_ephemeral: self.ephemeral,
            force: self.force,
        }
    }
}

fn freeable(listing: &Listing, whose: Whose) -> u64 {
    let ephemeral = listing
        .guests
        .iter()
        .flat_map(|guest| &guest.pools)
        .filter(|pool| pool.kind == Kind::Ephemeral)
        .map(|pool| pool.frames)
        .sum();
    match whose.0 {
        Some(_) => ephemeral,
        // Each pool's last frame is counted as a whole one.
        None => (listing.limit - listing.used + ephemeral).min(listing.limit),
    }
}

fn lines(listing: &Listing) -> Vec<String> {
    let Listing {
        limit,
        used,
        guests,
    } = listing;
    let mut lines = vec![format!("{used} of {limit} frames are used")];
    for guest in guests {
        lines.push(guest_line(guest));
        lines.extend(guest.pools.iter().map(pool_line));
    }
    lines
}

fn guest_line(guest: &GuestView) -> String {
    let settings = &guest.settings;
    let cap = settings
        .cap
        .map_or("none".into(), |frames| format!("{frames} frames"));
    format!(
        "{}: weight {}, cap {cap}, compress {}, {}; {}",
        guest.user_id,
        settings.weight,
        if settings.compress { "on" } else { "off" },
        if settings.frozen { "frozen" } else { "thawed" },
        counts(&guest.counts)
    )
}

fn pool_line(pool: &PoolView) -> String {
    let kind = match pool.kind {
        Kind::Ephemeral => "ephemeral",
        Kind::Persistent => "persistent",
    };
    let quota = pool
        .quota
        .map_or_else(String::new, |quota| format!(" of {quota}"));
    format!(
        "  {:08x} {kind} '{}': {} pages{quota} in {} frames; {}",
        pool.id.number(),
        pool.label,
        pool.pages,
        pool.frames,
        counts(&pool.counts)
    )
}

fn counts(counts: &Counts) -> String {
    format!(
        "puts {}, rejected {}, hits {}, misses {}, flushed {}, evicted {}",
        counts.puts, counts.rejected, counts.hits, counts.misses, counts.flushed, counts.evicted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use cp_core::tmem::Settings;

    fn request(line: &str) -> Result<Request, clap::Error> {
        let words: Vec<_> = line.split(' ').map(String::from).collect();
        Command::new(&words).map(|Command::Tmem(command)| command.request())
    }

    #[test]
    fn the_commands_are_well_formed() {
        Command::command().debug_assert();
    }

    #[test]
    fn each_command_asks_for_what_its_name_says() {
        let user_id = UserId::new("LINUX01").unwrap();
        let user = Some(user_id);
        let weight = NonZeroU16::new(200).unwrap();
        let selection = Selection {
            whose: user,
            pool: None,
            only_ephemeral: false,
            force: false,
        };
        for (line, expected) in [
            ("tmem list", Pools::List(None)),
            ("TMEM list linux01", Pools::List(user)),
            ("tmem freeable", Pools::List(None)),
            (
                "tmem freeze LINUX01",
                Pools::Set(user, Setting::Frozen(true)),
            ),
            ("tmem thaw all", Pools::Set(None, Setting::Frozen(false))),
            (
                "tmem set weight linux01 200",
                Pools::Set(user, Setting::Weight(weight)),
            ),
            (
                "tmem set cap linux01 64M",
                Pools::Set(user, Setting::Cap(Some(16384))),
            ),
            (
                "tmem set cap linux01 0",
                Pools::Set(user, Setting::Cap(Some(0))),
            ),
            (
                "tmem set cap all none",
                Pools::Set(None, Setting::Cap(None)),
            ),
            (
                "tmem set compress all off",
                Pools::Set(None, Setting::Compress(false)),
            ),
            ("tmem flush linux01", Pools::Flush(selection)),
            (
                "tmem flush ALL --ephemeral",
                Pools::Flush(Selection {
                    whose: None,
                    only_ephemeral: true,
                    ..selection
                }),
            ),
            (
                "tmem destroy linux01 --pool 00010003 --force",
                Pools::Destroy(Selection {
                    pool: Some(PoolId::from_number(0x1_0003)),
                    force: true,
                    ..selection
                }),
            ),
        ] {
            assert_eq!(request(line).unwrap(), Request::Pools(expected), "{line}");
        }
        let path = path::absolute("pools").unwrap();
        assert_eq!(
            request("tmem save linux01 pools").unwrap(),
            Request::Save {
                user_id,
                path: path.clone(),
            }
        );
        assert_eq!(
            request("tmem restore linux01 pools").unwrap(),
            Request::Restore { user_id, path }
        );
        for line in [
            "tmem",
            "tmem frobnicate",
            "tmem freeze",
            "tmem flush",
            "tmem set weight linux01 0",
            "tmem set weight linux01",
            "tmem set cap linux01 64",
            "tmem set compress linux01 perhaps",
            "tmem flush linux01 --pool x",
            "tmem freeze LINUX0001",
            "tmem save linux01",
            "tmem restore linux01",
        ] {
            assert!(request(line).is_err(), "{line}");
        }
    }

    #[test]
    fn pools_are_listed() {
        let counts = Counts {
            puts: 1,
            rejected: 2,
            hits: 3,
            misses: 4,
            flushed: 5,
            evicted: 6,
        };
        let listing = Listing {
            limit: 100,
            used: 30,
            guests: vec![GuestView {
                user_id: UserId::new("LINUX01").unwrap(),
                settings: Settings::default(),
                pools: vec![PoolView {
                    id: PoolId::from_number(0x1_0000),
                    kind: Kind::Ephemeral,
                    label: "ext4".into(),
                    quota: Some(50),
                    pages: 40,
                    frames: 20,
                    counts,
                }],
                counts,
            }],
        };
        let counts = "puts 1, rejected 2, hits 3, misses 4, flushed 5, evicted 6";
        assert_eq!(
            lines(&listing),
            [
                "30 of 100 frames are used".to_string(),
                format!("LINUX01: weight 100, cap none, compress on, thawed; {counts}"),
                format!("  00010000 ephemeral 'ext4': 40 pages of 50 in 20 frames; {counts}"),
            ]
        );
        let json = json!(listing);
        assert_eq!(json["guests"][0]["pools"][0]["counts"]["hits"], 3);
        assert_eq!(freeable(&listing, Whose(None)), 90);
        assert_eq!(
            freeable(&listing, Whose(listing.guests[0].user_id.into())),
            20
        );
    }
}
