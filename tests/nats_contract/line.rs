//! The NATS protocol itself, line by line: a server says at once when it refuses, where a client library only waits.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::json;

use crate::server;

/// How long a server may take to answer a ping.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection of one user.
pub(crate) struct Line {
    reader: BufReader<TcpStream>,
    /// Messages that came while something else was awaited.
    messages: Vec<Message>,
    subscriptions: u32,
}

/// A message that was delivered.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) body: String,
}

impl Line {
    /// Logs in.
    pub(crate) fn login(port: u16, user: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut line = Self { reader: BufReader::new(stream), messages: Vec::new(), subscriptions: 0 };
        let options = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "lang": "test", "version": "0",
            "protocol": 1, "user": user, "pass": server::password(user),
        });
        line.send(&format!("CONNECT {options}\r\n"));
        assert_eq!(line.settled(), Vec::<String>::new(), "{user} may not log in");
        line
    }

    /// Whether the server lets this user publish there.
    pub(crate) fn may_publish(&mut self, subject: &str, reply: &str, body: &str) -> bool {
        self.send(&format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len()));
        self.settled().is_empty()
    }

    /// Whether the server lets this user listen there.
    pub(crate) fn may_subscribe(&mut self, subject: &str) -> bool {
        self.subscriptions += 1;
        self.send(&format!("SUB {subject} {}\r\n", self.subscriptions));
        self.settled().is_empty()
    }

    /// The next message, waiting for it if none is here yet.
    pub(crate) fn next(&mut self) -> Message {
        while self.messages.is_empty() {
            self.read_one();
        }
        self.messages.remove(0)
    }

    /// Listens for one message.
    pub(crate) fn listen_once(&mut self, subject: &str) {
        assert!(self.may_subscribe(subject), "may not listen to {subject}");
        self.send(&format!("UNSUB {} 1\r\n", self.subscriptions));
    }

    fn send(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the server has seen all that was sent, and gives what it refused.
    fn settled(&mut self) -> Vec<String> {
        self.send("PING\r\n");
        let mut errors = Vec::new();
        loop {
            match self.read_one() {
                Some(said) if said == "PONG" => return errors,
                Some(said) if said.starts_with("-ERR") => errors.push(said),
                _ => {}
            }
        }
    }

    /// Reads one operation. Messages are kept, the rest is given back.
    fn read_one(&mut self) -> Option<String> {
        let mut said = String::new();
        assert!(self.reader.read_line(&mut said).unwrap() > 0, "the server closed the connection");
        let said = said.trim_end();
        let words: Vec<&str> = said.split_whitespace().collect();
        match words.first() {
            Some(&("MSG" | "HMSG")) => {
                let mut body = vec![0; words.last().unwrap().parse::<usize>().unwrap() + 2];
                self.reader.read_exact(&mut body).unwrap();
                let body = String::from_utf8_lossy(&body).trim_end().to_owned();
                self.messages.push(Message { body });
                None
            }
            Some(&"PING") => {
                self.send("PONG\r\n");
                None
            }
            _ => Some(said.to_owned()),
        }
    }
}
