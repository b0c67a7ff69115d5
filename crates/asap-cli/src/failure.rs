//! The end of a failed command: one message on standard error, and the exit code.

use std::process::ExitCode;

use asap_data::DataError;

/// A mistake of the user in usage, configuration or data; exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// 0 for success, 2 for a mistake in usage, configuration or data, 1 for a failed run.
pub(crate) fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if is_closed_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("asap: {}", message(&error));
    let usage = error.chain().any(|cause| {
        cause.is::<Usage>()
            || cause.is::<asap_core::Error>()
            || cause
                .downcast_ref::<DataError>()
                .is_some_and(|error| !matches!(error, DataError::Write { .. }))
            || cause.downcast_ref::<asap_net::Error>().is_some_and(asap_net::Error::is_usage)
            || cause.downcast_ref::<asap::Error>().is_some_and(asap::Error::is_usage)
    });
    if usage && !is_full(&error) { ExitCode::from(2) } else { ExitCode::from(1) }
}

/// The error with its causes, leaving out those that it already contains.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        _ if text.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

/// True if a disk or a quota is full, which is nobody's mistake in usage.
fn is_full(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let mut errors = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    errors.any(|error| matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull))
}

/// True if the reader of our output is gone, as after `| head`.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_not_repeated() {
        let cause = std::io::Error::other("disk full");
        let error = Err::<(), _>(cause).context("cannot write a: disk full").unwrap_err();
        assert_eq!(message(&error), "cannot write a: disk full");
        assert_eq!(
            message(&error.context("while saving")),
            "while saving: cannot write a: disk full"
        );
    }
}
