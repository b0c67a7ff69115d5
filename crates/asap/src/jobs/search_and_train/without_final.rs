//! Runs without a final: every cell that is found is trained.

use super::trainings::training_folder;
use super::{Progress, search_folder};
use crate::error::Error;
use crate::run::folder::{self as run_folder, RunFolder};
use crate::run::tables::{RunResult, SearchAndTrainings};

impl Progress<'_> {
    /// Searches, and trains what each finds.
    pub(super) fn without_final(&mut self) -> Result<Option<RunResult>, Error> {
        let all = self.run.config.seeds(self.run.plan.searches);
        let own = self.run.shard.choose(&vec![1.0; all.len()]);
        let mut found = Vec::new();
        for &run in &own {
            match self.search(&search_folder(all[run]), all[run])? {
                Some(search) => found.push(search),
                None => return Ok(None),
            }
        }
        for (number, search) in found.iter().enumerate() {
            let design = search.genotype.clone().into();
            let left = 1.0 / (found.len() - number) as f64;
            let folder = search_folder(search.seed);
            if self.train(&folder, &design, Some(search.seed), left)?.is_none() {
                return Ok(None);
            }
        }
        let (mut searches, mut missing) = (Vec::new(), Vec::new());
        for seed in all {
            match self.done(seed)? {
                Some(one) => searches.push(one),
                None => missing.push(format!("search, seed {seed}, and its trainings")),
            }
        }
        Ok(Some(RunResult { missing, ..self.result(searches, None) }))
    }

    /// The search with this seed and the trainings of its cell, if they are complete.
    fn done(&self, seed: u64) -> Result<Option<SearchAndTrainings>, Error> {
        let of = |folder: &str| RunFolder::open(&self.run.path(folder)).ok();
        let folder = search_folder(seed);
        let Some((run, _)) = of(&folder) else { return Ok(None) };
        let Some(search) = run.read_json(run_folder::RESULT)? else { return Ok(None) };
        let mut trainings = Vec::new();
        for training in self.run.config.seeds(self.run.plan.trainings) {
            let folder = training_folder(Some(seed), training);
            let Some((run, _)) = of(&folder) else { return Ok(None) };
            let Some(result) = run.read_json(run_folder::RESULT)? else { return Ok(None) };
            trainings.push((folder, result));
        }
        Ok(Some(SearchAndTrainings { folder, search, trainings }))
    }
}
