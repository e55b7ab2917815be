//! The exchange format: a log, or the end of one, as lines of JSON, to be carried from one database to another.
//!
//! ```text
//!   {"format":"keyledger-log","version":1,…}       which log it is, what it begins after, and where it will end
//!   {"specversion":"1.0","id":…,"data":…}          an event, as CloudEvents writes them
//!   …
//!   {"format":"keyledger-log-end","events":2,…}    without this line the text was cut off
//! ```
//!
//! Only text is made and read here, one line at a time. `docs/exchange-format.md` describes it for other programs.

mod line;
#[cfg(test)]
mod tests;

use keyledger_schemas::envelope::{Position, Recorded, content_hash};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::log::Head;
use line::{EventLine, HeadLine};

/// What the first line calls the format.
pub const FORMAT: &str = "keyledger-log";

/// What the last line calls it.
pub const END: &str = "keyledger-log-end";

/// The version of the format that is written and read.
pub const VERSION: u32 = 1;

/// No line is longer than this in bytes: many times what the largest event needs.
pub const LINE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What the first line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The log that it is a copy of.
    pub log_id: Uuid,
    /// The first event follows this one.
    pub after: Head,
    /// The last event stands here.
    pub head: Head,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    format: String,
    version: u32,
    log_id: Uuid,
    after: HeadLine,
    head: HeadLine,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrailerLine {
    format: String,
    events: u64,
    head: HeadLine,
}

/// What every version of the format says of itself.
#[derive(Deserialize)]
struct Format {
    format: String,
    version: u32,
}

/// The first line, without its end.
pub fn header(header: &Header) -> String {
    text(&HeaderLine {
        format: FORMAT.to_owned(),
        version: VERSION,
        log_id: header.log_id,
        after: header.after.into(),
        head: header.head.into(),
    })
}

/// The line of an event, without its end.
pub fn event(event: &Recorded) -> String {
    text(&EventLine::from(event))
}

/// The last line, without its end.
pub fn trailer(events: u64, head: Head) -> String {
    text(&TrailerLine { format: END.to_owned(), events, head: head.into() })
}

fn text<T: Serialize>(line: &T) -> String {
    serde_json::to_string(line).unwrap_or_else(|error| unreachable!("a line is plain data with text keys: {error}"))
}

/// What is wrong with a text, and where. Nothing that comes after it can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Fault {
    /// Counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a text line by line, and proves each event by its hash, its place and the chain.
#[derive(Clone, Debug)]
pub struct Reading {
    header: Header,
    head: Head,
    lines: u64,
    ended: bool,
}

impl Reading {
    /// Reads the first line.
    ///
    /// # Errors
    ///
    /// [`Fault`] when it is not one that this version reads.
    pub fn begin(line: &[u8]) -> Result<Self, Fault> {
        let fault = |reason: String| Fault { line: 1, reason };
        let not_ours = || fault("this is no export of a log: it does not begin as one".to_owned());
        let format: Format = serde_json::from_slice(line).map_err(|_| not_ours())?;
        if format.format != FORMAT {
            return Err(not_ours());
        }
        if format.version != VERSION {
            let (theirs, ours) = (format.version, VERSION);
            return Err(fault(format!("it is in version {theirs} of the format, and this keyledger reads {ours}")));
        }
        let line: HeaderLine = serde_json::from_slice(line).map_err(|error| fault(damaged(&error)))?;
        let header = Header { log_id: line.log_id, after: line.after.into(), head: line.head.into() };
        if header.head.position < header.after.position {
            return Err(fault("it ends before it begins".to_owned()));
        }
        Ok(Self { header, head: header.after, lines: 1, ended: false })
    }

    /// What the first line said.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The last event that was read; before the first what it follows.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How many events were read.
    pub fn events(&self) -> u64 {
        self.head.position - self.header.after.position
    }

    /// Reads the next line: the next event, or `None` for the last line.
    ///
    /// # Errors
    ///
    /// [`Fault`] when it cannot be read or is not what must come next.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Recorded>, Fault> {
        self.lines += 1;
        let read = self.read(line).map_err(|reason| Fault { line: self.lines, reason })?;
        match &read {
            Some(event) => self.head = Head { position: event.position, chain: event.chain },
            None => self.ended = true,
        }
        Ok(read)
    }

    /// There are no more lines.
    ///
    /// # Errors
    ///
    /// [`Fault`] when the last line was not there.
    pub fn finish(&self) -> Result<(), Fault> {
        if self.ended {
            return Ok(());
        }
        let (last, head) = (self.head.position, self.header.head.position);
        let reason = format!("nothing follows: it was cut off at position {last} of {head}");
        Err(Fault { line: self.lines, reason })
    }

    fn read(&self, line: &[u8]) -> Result<Option<Recorded>, String> {
        if self.ended {
            return Err("there is more after the end: these are several exports in one".to_owned());
        }
        let event = match serde_json::from_slice::<EventLine>(line) {
            Ok(event) => event.recorded()?,
            Err(error) => {
                return match serde_json::from_slice::<TrailerLine>(line) {
                    Ok(trailer) if trailer.format == END => self.end(&trailer).map(|()| None),
                    _ => Err(damaged(&error)),
                };
            }
        };
        self.prove(&event)?;
        Ok(Some(event))
    }

    /// Holds the event against its hash and what was read before it.
    fn prove(&self, event: &Recorded) -> Result<(), String> {
        let Some(next): Option<Position> = self.head.position.checked_add(1) else {
            return Err("nothing can follow: there is no position after this one".to_owned());
        };
        if event.position != next {
            return Err(format!("position {} stands where {next} must be", event.position));
        }
        if content_hash(&event.data) != event.content_hash {
            return Err(format!("the data of position {next} does not have its hash"));
        }
        if event.chain_after(&self.head.chain) != event.chain {
            return Err(format!("position {next} does not hang on the chain"));
        }
        Ok(())
    }

    fn end(&self, trailer: &TrailerLine) -> Result<(), String> {
        let head = Head::from(trailer.head);
        if head != self.head || head != self.header.head || trailer.events != self.events() {
            let (events, position) = (self.events(), self.head.position);
            return Err(format!(
                "it says that {} events end at position {}, and {events} events end at {position}",
                trailer.events, head.position
            ));
        }
        Ok(())
    }
}

fn damaged(error: &serde_json::Error) -> String {
    format!("it cannot be read: {error}")
}
