//! The devices; no other file names them.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
use burn::tensor::DeviceType;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The device that holds tensors and runs operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// Every CPU, in pure Rust.
    #[default]
    Cpu,
    /// A GPU through Vulkan; built with the feature `vulkan`.
    Vulkan,
    /// A GPU through WebGPU; built with the feature `wgpu`.
    Wgpu,
    /// An NVIDIA GPU; built with the feature `cuda`.
    Cuda,
    /// An AMD GPU; built with the feature `rocm`.
    Rocm,
}

impl DeviceName {
    /// Every known device, built in or not.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Vulkan, Self::Wgpu, Self::Cuda, Self::Rocm];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Vulkan => "vulkan",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// If the program was built without it, or the machine has none.
    pub fn open(self) -> Result<Device, Error> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => {
                self.find(DeviceType::Vulkan).map(|()| Device::vulkan(Default::default()))
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu => self.find(DeviceType::Wgpu).map(|()| Device::wgpu(Default::default())),
            #[cfg(feature = "cuda")]
            Self::Cuda => self.find(DeviceType::Cuda).map(|()| Device::cuda(0)),
            #[cfg(feature = "rocm")]
            Self::Rocm => self.find(DeviceType::Rocm).map(|()| Device::rocm(0)),
            #[allow(unreachable_patterns)]
            missing => Err(Error::DeviceNotBuilt { device: missing.name() }),
        }
    }

    /// The name of the card that a device stands for, if the program was built for it and the machine has one.
    pub fn card(self) -> Option<String> {
        #[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
        if self != Self::Cpu {
            return Some(self.open().ok()?.identity()?.name.to_string());
        }
        None
    }

    /// Makes sure that there is a device of a type; opening one that is missing panics.
    #[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
    fn find(self, of: DeviceType) -> Result<(), Error> {
        if Device::enumerate(of).is_empty() {
            return Err(Error::DeviceNotFound { device: self.name() });
        }
        Ok(())
    }
}

/// True if the device is the CPU, whose memory the host reads without waiting for it.
pub(crate) fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|device| device.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown device `{text}`; choose one of: {names}")
        })
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(device: DeviceName) -> Self {
        device.name().to_owned()
    }
}
