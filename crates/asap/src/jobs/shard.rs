//! Parts of the runs of a command, for several processes on one machine or on many.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// One of several parts of the runs of a command. All parts work in one folder; each has its own runs, and the one that ends last
/// writes the whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `count`.
    number: usize,
    count: usize,
}

/// The most parts.
const MOST: usize = 1_000_000;

/// The number of parts, for array jobs that do not tell it.
pub const SHARDS: &str = "ASAP_SHARDS";

impl Shard {
    /// Everything.
    pub const WHOLE: Self = Self { number: 1, count: 1 };

    /// Part `number` of `count`, counted from 1.
    ///
    /// # Errors
    /// If there is no such part.
    pub fn new(number: usize, count: usize) -> Result<Self, Error> {
        if (1..=count).contains(&number) && count <= MOST {
            return Ok(Self { number, count });
        }
        Err(Error::Config(format!(
            "shard: expected part 1 to N of 1 to {MOST}, such as 3/8, found {number}/{count}"
        )))
    }

    /// True if there is only one part.
    pub fn is_whole(self) -> bool {
        self.count == 1
    }

    /// The part of the task of an array job, and the variable that names it: Slurm, Kubernetes, PBS, Torque, Grid Engine, LSF or AWS Batch. `read`
    /// reads an environment variable.
    ///
    /// # Errors
    /// If the number of tasks is not told, or the numbers of the tasks are not in even steps.
    pub fn of_array_job(
        read: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(Self, &'static str)>, Error> {
        let number = |name: &str| read(name)?.trim().parse::<usize>().ok();
        for Array { task, first, step, count } in ARRAYS {
            // Outside of an array job, Grid Engine says `undefined` and LSF 0.
            let Some(index) = number(task).filter(|&index| index > 0 || *task != LSF) else {
                continue;
            };
            let first = match first {
                First::Is(first) => *first,
                First::In(name) => number(name).unwrap_or(1),
            };
            let step = step.and_then(number).unwrap_or(1).max(1);
            let told = match count {
                Count::In(name) => number(name),
                Count::Last(name) => {
                    number(name).and_then(|last| Some(last.checked_sub(first)? / step + 1))
                }
                Count::Untold => None,
            };
            let fault = |problem: String| {
                Error::Config(format!(
                    "{task} = {index}: {problem}; give --shard I/N, or --shard 1/1 to run everything in every task"
                ))
            };
            let count = number(SHARDS).or(told).ok_or_else(|| {
                fault(format!("expected the number of tasks in {SHARDS}, found none"))
            })?;
            let place = index.checked_sub(first).filter(|place| place % step == 0);
            let shard = place.and_then(|place| Self::new(place / step + 1, count).ok());
            let shard = shard.ok_or_else(|| {
                let last = first + step * count.saturating_sub(1);
                fault(format!("expected tasks {first} to {last} of {count}"))
            })?;
            return Ok(Some((shard, task)));
        }
        Ok(None)
    }

    /// The runs of this part, by the time that each takes in any unit. The heaviest ones are dealt first, each to the part with the least to do;
    /// a part has them in that order. Everything stays in its own order.
    pub fn choose(self, weights: &[f64]) -> Vec<usize> {
        if self.is_whole() {
            return (0..weights.len()).collect();
        }
        let mut runs: Vec<usize> = (0..weights.len()).collect();
        runs.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        let mut parts = vec![(0.0, Vec::new()); self.count];
        for run in runs {
            let least = |(a, one): &(f64, Vec<_>), (b, other): &(f64, Vec<_>)| {
                a.total_cmp(b).then(one.len().cmp(&other.len()))
            };
            let part = parts.iter_mut().min_by(|a, b| least(a, b)).expect("at least one part");
            part.0 += weights[run];
            part.1.push(run);
        }
        parts.swap_remove(self.number - 1).1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, count)| {
            Some((number.trim().parse().ok()?, count.trim().parse().ok()?))
        });
        let shard = numbers.and_then(|(number, count)| Self::new(number, count).ok());
        shard.ok_or_else(|| "expected a part of all runs, from 1/N to N/N, such as 3/8".to_owned())
    }
}

/// The variables of an array job.
struct Array {
    task: &'static str,
    first: First,
    step: Option<&'static str>,
    count: Count,
}

/// The number of the first task.
enum First {
    Is(usize),
    In(&'static str),
}

/// Where the number of tasks is told.
enum Count {
    In(&'static str),
    /// In the number of the last one.
    Last(&'static str),
    Untold,
}

const LSF: &str = "LSB_JOBINDEX";

const ARRAYS: &[Array] = &[
    Array {
        task: "SLURM_ARRAY_TASK_ID",
        first: First::In("SLURM_ARRAY_TASK_MIN"),
        step: Some("SLURM_ARRAY_TASK_STEP"),
        count: Count::In("SLURM_ARRAY_TASK_COUNT"),
    },
    Array { task: "JOB_COMPLETION_INDEX", first: First::Is(0), step: None, count: Count::Untold },
    Array {
        task: "AWS_BATCH_JOB_ARRAY_INDEX",
        first: First::Is(0),
        step: None,
        count: Count::In("AWS_BATCH_JOB_ARRAY_SIZE"),
    },
    Array {
        task: "SGE_TASK_ID",
        first: First::In("SGE_TASK_FIRST"),
        step: Some("SGE_TASK_STEPSIZE"),
        count: Count::Last("SGE_TASK_LAST"),
    },
    Array {
        task: LSF,
        first: First::Is(1),
        step: Some("LSB_JOBINDEX_STEP"),
        count: Count::Last("LSB_JOBINDEX_END"),
    },
    Array { task: "PBS_ARRAY_INDEX", first: First::Is(1), step: None, count: Count::Untold },
    Array { task: "PBS_ARRAYID", first: First::Is(1), step: None, count: Count::Untold },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_in_one_part_and_heavy_ones_are_spread() {
        let weights: Vec<f64> = (0..23).map(|run| f64::from(run * 7 % 5)).collect();
        for count in 1..30 {
            let parts: Vec<Vec<usize>> =
                (1..=count).map(|n| Shard::new(n, count).unwrap().choose(&weights)).collect();
            let mut all = parts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..23).collect::<Vec<_>>(), "{count} parts");
            let sum = |part: &Vec<usize>| part.iter().map(|&run| weights[run]).sum::<f64>();
            let sums: Vec<f64> = parts.iter().map(sum).collect();
            let spread = |pick: fn(f64, f64) -> f64| sums.iter().copied().reduce(pick).unwrap();
            assert!(spread(f64::max) - spread(f64::min) <= 4.0, "{sums:?}");
            if count > 1 {
                assert!(
                    parts.iter().all(|part| part.is_sorted_by(|&a, &b| weights[a] >= weights[b]))
                );
            }
        }
        assert_eq!(Shard::WHOLE.choose(&[1.0, 3.0, 2.0]), [0, 1, 2]);
        // Runs without a cost are spread, too.
        assert_eq!(Shard::new(2, 3).unwrap().choose(&[0.0; 6]), [1, 4]);
    }

    #[test]
    fn parts_in_words() {
        for text in ["1/1", "3/8", "8/8"] {
            assert_eq!(text.parse::<Shard>().unwrap().to_string(), text);
        }
        for text in ["0/8", "9/8", "1/0", "3", "a/b", "1/2/3", "-1/4", ""] {
            assert!(text.parse::<Shard>().unwrap_err().contains("such as 3/8"), "{text}");
        }
    }

    fn found(variables: &[(&str, &str)]) -> Result<String, String> {
        let read = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let found = Shard::of_array_job(read).map_err(|error| error.to_string())?;
        Ok(found.map_or_else(String::new, |(shard, name)| format!("{shard} {name}")))
    }

    #[test]
    fn array_jobs() {
        let slurm = |id, min, step, count| {
            found(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_STEP", step),
                ("SLURM_ARRAY_TASK_COUNT", count),
            ])
        };
        assert_eq!(slurm("3", "1", "1", "4").unwrap(), "3/4 SLURM_ARRAY_TASK_ID");
        assert_eq!(slurm("0", "0", "1", "4").unwrap(), "1/4 SLURM_ARRAY_TASK_ID");
        assert_eq!(slurm("16", "4", "4", "4").unwrap(), "4/4 SLURM_ARRAY_TASK_ID");
        let uneven = slurm("9", "1", "1", "4").unwrap_err();
        assert!(uneven.contains("expected tasks 1 to 4 of 4; give --shard I/N"), "{uneven}");

        let kubernetes = ("JOB_COMPLETION_INDEX", "2");
        assert_eq!(found(&[kubernetes, (SHARDS, "3")]).unwrap(), "3/3 JOB_COMPLETION_INDEX");
        assert!(found(&[kubernetes]).unwrap_err().contains("number of tasks in ASAP_SHARDS"));
        let aws = [("AWS_BATCH_JOB_ARRAY_INDEX", "0"), ("AWS_BATCH_JOB_ARRAY_SIZE", "5")];
        assert_eq!(found(&aws).unwrap(), "1/5 AWS_BATCH_JOB_ARRAY_INDEX");
        let sge = |id| {
            found(&[
                ("SGE_TASK_ID", id),
                ("SGE_TASK_FIRST", "2"),
                ("SGE_TASK_LAST", "10"),
                ("SGE_TASK_STEPSIZE", "2"),
            ])
        };
        assert_eq!(sge("10").unwrap(), "5/5 SGE_TASK_ID");
        assert_eq!(sge("undefined").unwrap(), "");
        let lsf = |id| found(&[("LSB_JOBINDEX", id), ("LSB_JOBINDEX_END", "6")]);
        assert_eq!(lsf("6").unwrap(), "6/6 LSB_JOBINDEX");
        assert_eq!(lsf("0").unwrap(), "");
        let pbs = |id| found(&[("PBS_ARRAY_INDEX", id), (SHARDS, "4")]);
        assert_eq!(pbs("4").unwrap(), "4/4 PBS_ARRAY_INDEX");
        assert!(pbs("0").unwrap_err().contains("expected tasks 1 to 4 of 4"));
        assert_eq!(found(&[]).unwrap(), "");
    }
}
