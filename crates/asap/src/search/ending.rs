//! The end of a search: the derived cell, the loss of accuracy by the cut, and the files.

use asap_core::{Derived, Genotype, MixingTables, Operation, SURE, Sureness};

use super::Search;
use crate::error::Error;
use crate::memory::peak_rss_mb;
#[cfg(feature = "report")]
use crate::report::picture::{Picture, picture};
use crate::run::folder::RunFolder;
use crate::run::record::{RelaxationGap, SearchResult};

/// Number of batches over which statistics are recomputed.
const STATISTICS_BATCHES: usize = 50;

impl Search {
    /// Derives the cell, and measures the loss of accuracy by the cut. The learner keeps only the cell.
    pub(super) fn end(&mut self, valid_accuracy: Option<f64>) -> Result<SearchResult, Error> {
        let derived = self.method.derive(&self.learner);
        let choices = self.method.sureness(&self.learner, &derived.genotype);
        let weights = self.learner.parameters.weight_count();
        let warnings = self.warnings(&derived, &choices);
        let (valid_accuracy, derived_valid_accuracy, relaxation_gap) =
            if self.config.search.method.shares_weights() {
                let (accuracy, gap) = self.cut(&derived.genotype)?;
                (valid_accuracy, Some(accuracy), Some(gap))
            } else {
                (None, self.method.accuracy(), None)
            };
        Ok(SearchResult {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: self.config.seed,
            method: self.config.search.method,
            data: self.data.clone(),
            decided_by_annealing: self.config.search.method.anneals()
                && derived.fallback.is_empty(),
            choices,
            fallback: derived.fallback.iter().map(ToString::to_string).collect(),
            genotype: derived.genotype,
            epochs: self.position.epoch,
            alpha_steps: self.alpha_steps,
            seconds: self.position.seconds,
            valid_accuracy,
            derived_valid_accuracy,
            relaxation_gap,
            weights,
            peak_rss_mb: peak_rss_mb(),
            warnings,
        })
    }

    /// Removes everything but the cell, keeping the weights: its accuracy on the validation half,
    /// and the loss of accuracy by the cut.
    fn cut(&mut self, genotype: &Genotype) -> Result<(f64, RelaxationGap), Error> {
        let mixing = self.method.mixing(&self.learner, &self.clock());
        let as_they_are = self.learner.parameters.clone();
        let search = self.recomputed_accuracy(&mixing)?;
        self.learner.parameters = as_they_are;
        self.learner.keep(genotype);
        let mixing = self.learner.unmixed();
        let accuracy = self.score(&mut self.valid.epoch(0), &mixing)?.accuracy().unwrap_or(0.0);
        let derived = self.recomputed_accuracy(&mixing)?;
        Ok((accuracy, RelaxationGap { search, derived }))
    }

    /// Accuracy on the validation half with batch norm statistics recomputed on the training half.
    fn recomputed_accuracy(&mut self, mixing: &MixingTables) -> Result<f64, Error> {
        self.recompute_statistics(STATISTICS_BATCHES, mixing)?;
        Ok(self.score(&mut self.valid.epoch(0), mixing)?.accuracy().unwrap_or(0.0))
    }

    /// Recomputes batch norm statistics on some batches of the training half.
    pub(super) fn recompute_statistics(
        &mut self,
        batches: usize,
        mixing: &MixingTables,
    ) -> Result<(), Error> {
        let batches = self.learner.team().own(&self.train).epoch(self.position.epoch).take(batches);
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        let outcome = self.learner.recompute_statistics(batches.into_iter(), mixing);
        outcome.map_err(|error| self.position.error(error))
    }

    /// Warnings to consider before trusting the cell.
    fn warnings(&self, derived: &Derived, choices: &[Sureness]) -> Vec<String> {
        let mut warnings = Vec::new();
        let method = self.config.search.method;
        let unsure: Vec<_> = choices.iter().filter(|choice| choice.sure < SURE).collect();
        if let Some(least) = unsure.iter().min_by(|a, b| a.sure.total_cmp(&b.sure)) {
            let against =
                least.rival.as_ref().map_or(String::new(), |rival| format!(" against {rival}"));
            let missing: Option<Vec<f64>> = unsure.iter().map(|choice| choice.missing).collect();
            let more = match missing.map(|factors| factors.into_iter().fold(1.0, f64::max)) {
                Some(factor) if factor < 100.0 => format!(
                    "about {:.0} times as many epochs (--set search.epochs=...) would decide them, if they differ as it seems",
                    factor.ceil()
                ),
                _ => "no reasonable number of epochs decides all of them".to_owned(),
            };
            warnings.push(format!(
                "{} of {} choices are not sure; the least sure is {} {}{against} ({:.0} %); {more}",
                unsure.len(),
                choices.len(),
                least.choice,
                least.chosen,
                100.0 * least.sure,
            ));
        }
        if !derived.fallback.is_empty() && method.anneals() && !self.config.goes_by_evidence() {
            warnings.push(format!(
                "{} choices were still open at the end and were decided by the largest probability; \
                 more epochs (--set search.epochs=...) or a larger alpha rate (--set alpha.lr=...) \
                 let annealing decide them",
                derived.fallback.len()
            ));
        }
        if method.has_alpha()
            && !self.learner.architecture.is_decided()
            && self.alpha_spread() < 1e-3
        {
            warnings.push(format!(
                "alpha has hardly moved: the largest difference between two alphas of an edge is {:.2e} \
                 after {} steps on alpha; the cell is nearly arbitrary",
                self.alpha_spread(),
                self.alpha_steps
            ));
        }
        let free =
            |operation: Operation| operation == Operation::SkipConnect || operation.is_pool();
        let genes: Vec<_> = derived.genotype.cells()[0].genes().collect();
        let count = genes.iter().filter(|(_, gene)| free(gene.operation)).count();
        if 4 * count > 3 * genes.len() {
            warnings.push(format!(
                "{count} of {} operations of the normal cell are skip connections or poolings, a sign of collapse",
                genes.len()
            ));
        }
        warnings
    }
}

/// Draws the cell that was found.
pub(super) fn publish(folder: &RunFolder, genotype: &Genotype) -> Result<(), Error> {
    for &kind in genotype.family().kinds() {
        let (name, title) = (kind.name(), format!("{kind} cell"));
        folder.write(&format!("{name}.svg"), asap_core::svg(genotype, kind, &title).as_bytes())?;
        #[cfg(feature = "report")]
        {
            let Picture { png, width, height } = picture(genotype, kind, &title);
            folder.append_picture(&format!("cell/{name}"), png, [width, height])?;
        }
    }
    folder.append_text("genotype", &format!("    {genotype}\n"))
}
