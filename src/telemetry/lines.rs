//! Log lines as JSON, one object each: an error comes with all its causes, which is what is needed at night.

use std::error::Error;
use std::fmt::{self, Debug, Write as _};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

/// Writes each event as one line.
pub struct Lines;

impl<S> FormatEvent<S, JsonFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Line::default();
        line.add("timestamp", timestamp);
        line.add("level", event.metadata().level().as_str());
        event.record(&mut line);
        line.add("target", event.metadata().target());
        let spans: Vec<Value> =
            context.event_scope().map_or_else(Vec::new, |scope| scope.from_root().map(|it| span(&it)).collect());
        if !spans.is_empty() {
            line.add("spans", spans);
        }
        let text = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{text}")
    }
}

/// A span's fields, with its name.
fn span<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Value {
    let extensions = span.extensions();
    let fields = extensions.get::<FormattedFields<JsonFields>>().map_or("", |fields| fields.fields.as_str());
    let mut fields: serde_json::Map<String, Value> = serde_json::from_str(fields).unwrap_or_default();
    fields.insert("name".to_owned(), span.name().into());
    Value::Object(fields)
}

/// The fields of a line, in the order they were added.
#[derive(Default)]
struct Line(Vec<(&'static str, Value)>);

impl Line {
    fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        // `r#type` is the field `type`.
        self.0.push((name.strip_prefix("r#").unwrap_or(name), value.into()));
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.add(field.name(), chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field.name(), format!("{value:?}"));
    }
}

/// An error and its causes, each said once: some errors print their cause themselves.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> Value {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt().json().event_format(Lines).with_writer(move || writer.clone());
        tracing::subscriber::with_default(lines.finish(), log);
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.starts_with("{\"timestamp\":\"2"), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let error = keyledger_eventlog::log::AppendError::Unavailable(keyledger_eventlog::log::LogError::Database(
            refused.into(),
        ));
        let line = logged(|| tracing::warn!(error = &error as &dyn Error, attempt = 3, "cannot append"));
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "cannot append");
        assert_eq!(line["attempt"], 3);
        let said = line["error"].as_str().unwrap();
        assert!(said.starts_with("the log is not available: the log's database failed: "), "{said}");
        assert_eq!(said.matches("connection refused").count(), 1, "{said}");
    }

    #[test]
    fn fields_of_spans_stand_beside_those_of_the_event() {
        let line = logged(|| {
            let _outer = tracing::info_span!("outer", position = 7_u64).entered();
            let _inner = tracing::info_span!("inner").entered();
            tracing::info!(event.r#type = "license.issued", "said\nin two lines");
        });
        assert_eq!(line["spans"], serde_json::json!([{"name": "outer", "position": 7}, {"name": "inner"}]));
        assert_eq!((&line["event.type"], &line["message"]), (&"license.issued".into(), &"said\nin two lines".into()));
    }
}
