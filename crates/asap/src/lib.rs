//! Neural architecture search that anyone can afford (ASAP: Architecture Search, Anneal and Prune).
//!
//! The folders in order of dependence: `error`, `text`, `settings`, `tabular`, `run` (records, the loop, folder and memory), `latency`, `report`, then
//! `search` and `train`, and `jobs`, which starts and resumes both. No folder uses a later one.
//!
//! # From images to predictions
//!
//! Everything that the program does can be called. This search and this training are too small to learn anything:
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use asap::{DeviceName, Layers, Outcome, Preset, TrainedNetwork, jobs};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut layers = Layers::preset(Preset::Quick);
//! for setting in [
//!     "data.limit=80", "network.channels=2", "network.cells=3", "network.nodes=2", "search.epochs=2",
//!     "train.channels=2", "train.cells=3", "train.epochs=1",
//! ] {
//!     layers.set(setting)?;
//! }
//! let config = layers.resolve()?;
//! let runs = tempfile::tempdir()?;
//! let (search, training) = (runs.path().join("search"), runs.path().join("training"));
//! let never = AtomicBool::new(false);
//!
//! // Called again after a crash, both continue from their last checkpoint. `()` observes nothing.
//! let Outcome::Finished(found) = jobs::search(&search, &config, None, &mut (), &never)? else { return Ok(()) };
//! println!("{}", found.genotype);
//! jobs::train(&training, &config, &found.genotype.into(), None, None, &mut (), &never)?;
//!
//! let network = asap::run::folder::open_trained(&training, DeviceName::Cpu)?;
//! let [height, width, channels] = network.image_shape();
//! let grey = vec![128; height * width * channels];
//! assert_eq!(network.predict(&grey)?[0].len(), network.card().classes.len());
//! # Ok(())
//! # }
//! ```
//!
//! # A search without a folder
//!
//! A search and a training write to a [`Sink`]: the [`RunFolder`] above, or [`Memory`], which leaves nothing on disk.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use asap::{Layers, Memory, Outcome, Preset, Search, jobs};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut layers = Layers::preset(Preset::Quick);
//! for setting in
//!     ["data.limit=80", "network.channels=2", "network.cells=3", "network.nodes=2", "search.epochs=2"]
//! {
//!     layers.set(setting)?;
//! }
//! let config = layers.resolve()?;
//! let images = jobs::load(&config, &mut ())?;
//! let mut memory = Memory::new();
//! let never = AtomicBool::new(false);
//! let outcome = Search::new(config, images)?.run(&mut memory, &mut (), &never)?;
//! let Outcome::Finished(found) = outcome else { return Ok(()) };
//! assert_eq!(memory.genotype(), Some(found.genotype));
//! # Ok(())
//! # }
//! ```
//!
//! # Candidates of your own
//!
//! [`asap_core::anneal_and_prune`] is Algorithm 1 for modules of any kind. Here a line, a wave and a parabola, each with a
//! slope and an offset to learn, compete to explain some points; weights and logits take turns, and a pruned module is
//! no longer computed:
//!
//! ```
//! use std::cell::RefCell;
//!
//! use asap_core::{Adam, Annealing, Choice, anneal_and_prune};
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! let xs: [f32; 40] = std::array::from_fn(|i| i as f32 / 20.0 - 1.0);
//! let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
//! let features = [xs, xs.map(|x| (3.0 * x).sin()), xs.map(|x| x * x)].map(|values| tensor(&values));
//! let target = tensor(&xs.map(|x| 2.0 * x * x - 1.0));
//!
//! let mut choice = Choice::new(features.len(), 1);
//! let modules = RefCell::new(vec![tensor(&[0.1, 0.0]); features.len()]);
//! let loss = |modules: &[Tensor<1>], choice: &Choice, mixing: &Tensor<1>| {
//!     let module = |i: usize| {
//!         let [slope, offset] = [0, 1].map(|part| modules[i].clone().slice([part..part + 1]));
//!         (features[i].clone() * slope + offset) * mixing.clone().slice([i..i + 1])
//!     };
//!     let mixture = choice.alive().map(module).reduce(|sum, term| sum + term).expect("one is alive");
//!     (mixture - target.clone()).powi_scalar(2).mean()
//! };
//! let weights = |choice: &Choice, temperature| {
//!     tensor(&choice.weights(temperature).iter().map(|&weight| weight as f32).collect::<Vec<_>>())
//! };
//!
//! let adam = Adam { lr: 0.02, ..Adam::default() };
//! let epochs = (0..50 * 20).map(|step| f64::from(step) / 20.0);
//! let removed = anneal_and_prune(
//!     &mut choice,
//!     &Annealing::default(),
//!     epochs,
//!     |choice, temperature| {
//!         let mut modules = modules.borrow_mut();
//!         let tracked: Vec<_> = modules.iter().map(|m| m.clone().autodiff().require_grad()).collect();
//!         let gradients = loss(&tracked, choice, &weights(choice, temperature)).backward();
//!         for i in choice.alive() {
//!             let gradient = tracked[i].grad(&gradients).expect("it is in the loss");
//!             modules[i] = modules[i].clone() - gradient * 0.1;
//!         }
//!     },
//!     |choice, temperature| {
//!         let mixing = weights(choice, temperature).autodiff().require_grad();
//!         let gradients = loss(&modules.borrow(), choice, &mixing).backward();
//!         let gradient = mixing.grad(&gradients).expect("it is in the loss").into_data();
//!         let gradient: Vec<f64> = gradient.iter::<f64>().collect();
//!         choice.step(&choice.logit_gradient(&gradient, temperature), &adam);
//!     },
//! );
//! assert_eq!(removed.len(), 2);
//! assert_eq!(choice.best(), 2, "the points lie on a parabola");
//! ```

pub mod duration;
pub mod error;
pub mod jobs;
pub mod latency;
pub mod memory;
pub mod paper;
#[cfg(feature = "report")]
pub mod report;
pub mod run;
pub mod search;
pub mod settings;
pub mod tabular;
pub use asap_data::text;
pub mod train;

pub use asap_core::{EdgePolicy, Genotype, Operation, PublishedCell, SearchSpace, Stem};
pub use asap_data::{DataSpec, Dataset, LoadOptions, Splits};
pub use asap_net::{DeviceName, Evaluation, Precision, TrainedNetwork};
pub use error::Error;
pub use run::folder::{Place, RunFolder};
pub use run::record::{
    EpochRecord, Event, Observer, Outcome, SearchResult, TrainRecord, TrainResult,
};
pub use run::sink::{Memory, Sink};
pub use search::Search;
pub use search::learner::Learner;
pub use settings::config::Config;
pub use settings::{Layers, MethodName, Preset};
pub use train::Training;
