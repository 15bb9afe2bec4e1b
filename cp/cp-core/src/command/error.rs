// SPDX-License-Identifier: GPL-2.0

use thiserror::Error;

use crate::user_id::UserId;

/// CP's messages that mean that a command was not carried out.
///
/// `Display` gives the message as CP words it. Its number is the command's return code, as DIAGNOSE X'08' hands it
/// to the virtual machine. `module` is what stands between `HCP` and the number: the part of CP that complains.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// No such command, or none that this user may issue.
    #[error("HCPCMD001E Unknown CP command: {0}")]
    Unknown(String),
    /// An operand that the command does not have, or not in this place.
    #[error("HCP{module}002E Invalid operand - {operand}")]
    InvalidOperand {
        /// Who complains.
        module: &'static str,
        /// The operand, in upper case.
        operand: String,
    },
    /// An option that the command does not have, or that this user may not use.
    #[error("HCP{module}003E Invalid option - {option}")]
    InvalidOption {
        /// Who complains.
        module: &'static str,
        /// The option, in upper case.
        option: String,
    },
    /// The command should have ended here.
    #[error(
        "HCP{module}003E Invalid option - command contains extra option(s) starting with {option}"
    )]
    ExtraOption {
        /// Who complains.
        module: &'static str,
        /// The first operand too many, in upper case.
        option: String,
    },
    /// No user ID where one must be, or none that could exist.
    #[error("HCP{module}020E Userid missing or invalid")]
    UserIdInvalid {
        /// Who complains.
        module: &'static str,
    },
    /// The command should have gone on.
    #[error("HCP{module}026E Operand missing or invalid")]
    OperandMissing {
        /// Who complains.
        module: &'static str,
    },
    /// The user is not logged on.
    #[error("HCP{module}045E {user} not logged on")]
    NotLoggedOn {
        /// Who complains.
        module: &'static str,
        /// The user.
        user: UserId,
    },
    /// The user does not take messages of this kind.
    #[error("HCPMFS057E {user} not receiving; {reason}")]
    NotReceiving {
        /// The user.
        user: UserId,
        /// Why not.
        reason: &'static str,
    },
}

impl CommandError {
    /// The number of the message: the return code of the command.
    #[must_use]
    pub const fn code(&self) -> u32 {
        match self {
            Self::Unknown(_) => 1,
            Self::InvalidOperand { .. } => 2,
            Self::InvalidOption { .. } | Self::ExtraOption { .. } => 3,
            Self::UserIdInvalid { .. } => 20,
            Self::OperandMissing { .. } => 26,
            Self::NotLoggedOn { .. } => 45,
            Self::NotReceiving { .. } => 57,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_number_in_the_message() {
        let user = UserId::new("LINUX01").unwrap();
        let option = String::from("X");
        for error in [
            CommandError::Unknown("X".into()),
            CommandError::InvalidOperand {
                module: "CQU",
                operand: "X".into(),
            },
            CommandError::InvalidOption {
                module: "CQU",
                option: option.clone(),
            },
            CommandError::ExtraOption {
                module: "CQU",
                option,
            },
            CommandError::UserIdInvalid { module: "MSG" },
            CommandError::OperandMissing { module: "MSG" },
            CommandError::NotLoggedOn {
                module: "MSG",
                user,
            },
            CommandError::NotReceiving {
                user,
                reason: "SMSG OFF",
            },
        ] {
            let message = error.to_string();
            assert_eq!(message[6..9].parse(), Ok(error.code()), "{message}");
            assert!(
                message.starts_with("HCP") && message[9..].starts_with("E "),
                "{message}"
            );
        }
    }
}
