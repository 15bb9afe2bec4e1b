// SPDX-License-Identifier: GPL-2.0

//! VMRM's configuration: any text is one, or its first wrong line is named.

#![no_main]

use cp_core::UserId;
use cp_core::vmrm::Config;
use libfuzzer_sys::fuzz_target;

const WORDS: &[&str] = &[
    "ADMIN",
    "MSGUSER",
    "notify",
    "Memory",
    "INTERVAL",
    "FLOOR",
    "AVAILABLE",
    "LINUX*",
    "LINUX01",
    "*",
    "\n",
    "64M",
    "1",
    "60",
];

fuzz_target!(|bytes: &[u8]| {
    let text = &cp_fuzz::text(bytes, WORDS);
    let first = |lines| text.lines().take(lines).collect::<Vec<_>>().join("\n");
    match Config::parse(text) {
        Ok(config) => {
            assert!(config.low_percent < config.high_percent && config.high_percent <= 100);
            assert!((1..=3600).contains(&config.interval.as_secs()));
            // Neither the case matters nor how much is between words, and what comes last counts.
            let other = text.to_ascii_uppercase().replace(' ', " \t ");
            assert_eq!(Config::parse(&other).as_ref(), Ok(&config));
            let everybody = format!("{text}\nNOTIFY MEMORY *\nMEMORY FLOOR 3M");
            let everybody = Config::parse(&everybody).expect("two lines more");
            for user in ["LINUX01", "A", "@#$_-:"].map(|user| UserId::new(user).expect("a user")) {
                assert!(everybody.notifies(user));
                assert_eq!(everybody.floor(user), 3 << 8);
            }
        }
        Err(error) => {
            assert!(Config::parse(&first(error.line - 1)).is_ok());
            assert_eq!(Config::parse(&first(error.line)), Err(error));
        }
    }
});
