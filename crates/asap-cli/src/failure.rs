//! How a failed command ends: one message on standard error, and the exit code.

use std::process::ExitCode;

/// The user's fault: usage, configuration or data. Ends with exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// 0 for success, 2 for a fault of usage, configuration or data, 1 for a run that failed.
pub(crate) fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    if is_closed_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("asap: {}", message(&error));
    let usage = error.chain().any(|cause| {
        cause.is::<Usage>()
            || cause.is::<asap_core::Error>()
            || cause.is::<asap_data::DataError>()
            || cause.is::<asap_net::Error>()
            || cause.downcast_ref::<asap::Error>().is_some_and(asap::Error::is_usage)
    });
    if usage { ExitCode::from(2) } else { ExitCode::from(1) }
}

/// The error with its causes, each told once: an error may name its cause itself.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

/// Whether the reader of our output went away, as `head` does.
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
    fn a_cause_is_told_once() {
        let cause = std::io::Error::other("disk full");
        let error = Err::<(), _>(cause).context("cannot write a: disk full").unwrap_err();
        assert_eq!(message(&error), "cannot write a: disk full");
        assert_eq!(
            message(&error.context("while saving")),
            "while saving: cannot write a: disk full"
        );
    }
}
