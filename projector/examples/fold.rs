use std::sync::Arc;
use std::time::Instant;
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let clock = Arc::new(keyledger_schemas::clock::SystemClock);
    let log = Arc::new(keyledger_eventlog::sqlite::SqliteLog::open(&args[1], clock, Default::default()).await.unwrap());
    let tail = keyledger_eventlog::tail::SqlTail::new(log.clone());
    let t = Instant::now();
    let report = keyledger_projector::replay::replay(&tail, &format!("sqlite:{}", args[2]), keyledger_projector::replay::Switch::Replace, |_, _| {}).await.unwrap();
    let s = t.elapsed().as_secs_f64();
    println!("{:?}", report);
    println!("{:.2} s, {:.0}/s", s, report.position as f64 / s);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap());
    println!("cpu {}", std::fs::read_to_string("/proc/self/stat").unwrap().split(' ').skip(13).take(2).collect::<Vec<_>>().join("+"));
}
