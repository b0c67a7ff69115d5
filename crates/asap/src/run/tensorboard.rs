//! Event files of TensorBoard: TFRecords of `Event` messages (tensorflow/core/util/event.proto, framework/summary.proto).

use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use crate::run::record::Curves;

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// `DT_STRING` of tensorflow/core/framework/types.proto.
const STRING: i32 = 7;
/// `DATA_CLASS_TENSOR` of summary.proto.
const TENSOR: i32 = 2;
/// Red, green, blue and alpha, in summary.proto.
#[cfg(feature = "report")]
const RGBA: i32 = 4;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    tensor_shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
}

/// The shape of a scalar: without dimensions.
#[derive(Clone, PartialEq, Message)]
struct Shape {}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin_data: Option<PluginData>,
    #[prost(int32, tag = "4")]
    data_class: i32,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    plugin_name: String,
}

/// The beginning of a file.
pub(crate) fn header() -> Vec<u8> {
    framed(Event { file_version: Some("brain.Event:2".to_owned()), ..event(0) })
}

/// The numbers of an epoch.
pub(crate) fn scalars(record: &(impl Curves + ?Sized)) -> Vec<u8> {
    let value = |(tag, value): (&str, f64)| Value {
        tag: tag.replace(' ', "_"),
        simple_value: Some(value as f32),
        ..Value::default()
    };
    summary(record.epoch(), record.values().into_iter().map(value).collect())
}

/// A text in Markdown.
pub(crate) fn text(tag: &str, markdown: &str) -> Vec<u8> {
    let value = Value {
        tag: tag.to_owned(),
        tensor: Some(TensorProto {
            dtype: STRING,
            tensor_shape: Some(Shape {}),
            string_val: vec![markdown.as_bytes().to_vec()],
        }),
        metadata: Some(Metadata {
            plugin_data: Some(PluginData { plugin_name: "text".to_owned() }),
            data_class: TENSOR,
        }),
        ..Value::default()
    };
    summary(0, vec![value])
}

/// A picture, as a PNG of this many pixels.
#[cfg(feature = "report")]
pub(crate) fn image(tag: &str, png: Vec<u8>, [width, height]: [u32; 2]) -> Vec<u8> {
    let image = Image {
        height: height as i32,
        width: width as i32,
        colorspace: RGBA,
        encoded_image_string: png,
    };
    let value = Value { tag: tag.to_owned(), image: Some(image), ..Value::default() };
    summary(0, vec![value])
}

fn summary(step: usize, value: Vec<Value>) -> Vec<u8> {
    framed(Event { summary: Some(Summary { value }), ..event(step) })
}

fn event(step: usize) -> Event {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Event { wall_time: now.as_secs_f64(), step: step as i64, ..Event::default() }
}

/// A TFRecord: length and data, each with its masked checksum.
fn framed(event: Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(&length));
    record.extend(&data);
    record.extend(masked(&data));
    record
}

fn masked(bytes: &[u8]) -> [u8; 4] {
    CRC32C.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Point;

    impl Curves for Point {
        fn epoch(&self) -> usize {
            3
        }

        fn values(&self) -> Vec<(&'static str, f64)> {
            vec![("loss/training", 0.25), ("epoch/memory in MiB", 2.0)]
        }
    }

    #[test]
    fn a_record_is_framed_as_tensorflow_frames_it() {
        // "123456789" has the published CRC-32C 0xe3069283.
        assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
        let record = scalars(&Point);
        let (head, rest) = record.split_at(12);
        let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
        assert_eq!((rest.len(), &head[8..]), (length + 4, &masked(&head[..8])[..]));
        assert_eq!(rest[length..], masked(&rest[..length]));
        let event = Event::decode(&rest[..length]).unwrap();
        let values = event.summary.unwrap().value;
        assert_eq!(event.step, 3);
        assert_eq!((values[0].tag.as_str(), values[0].simple_value), ("loss/training", Some(0.25)));
        assert_eq!(values[1].tag, "epoch/memory_in_MiB");
    }
}
