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
    eprintln!("asap: {error:#}");
    let usage = error.chain().any(|cause| {
        cause.is::<Usage>()
            || cause.is::<asap_core::Error>()
            || cause.is::<asap_data::DataError>()
            || cause.downcast_ref::<asap::Error>().is_some_and(asap::Error::is_usage)
    });
    if usage { ExitCode::from(2) } else { ExitCode::from(1) }
}

/// Whether the reader of our output went away, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
