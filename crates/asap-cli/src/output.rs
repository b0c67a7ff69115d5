//! Results on standard output, as text or as one JSON value.

use std::io::{self, Write};

use asap::Evaluation;
pub(crate) use asap::duration::{counted, duration};
use serde::Serialize;

/// Prints a result as JSON if `json`, else as `text`.
pub(crate) fn print(json: bool, value: &impl Serialize, text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// A word quoted for the shell, if it needs quotes.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A fraction in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// An amount of memory, or `unknown`.
pub(crate) fn megabytes(amount: Option<f64>) -> String {
    amount.map_or("unknown".to_owned(), |mb| format!("{mb:.0} MiB"))
}

/// The confidence interval of an error, in words.
pub(crate) fn interval(evaluation: &Evaluation) -> String {
    let [low, high] = evaluation.interval;
    format!("95 % confidence: {} to {}", percent(low), percent(high))
}
