//! That the servers start, are killed, and come back with what they held.

use keyledger_test_servers::{Nats, NatsCluster, OLDEST, Options, Postgres};

#[test]
fn postgres_keeps_what_it_committed_when_it_is_killed() {
    let mut server = Postgres::start();
    assert_eq!(server.psql("create table t (n int); insert into t values (7); select n from t"), "7");
    server.kill();
    server.start_again();
    assert_eq!(server.psql("select n from t"), "7");
    server.stop();
    let backup = server.backup();
    server.start_again();
    server.psql("delete from t");
    server.stop();
    server.restore(&backup);
    server.start_again();
    assert_eq!(server.psql("select count(*) from t"), "1");
}

#[test]
fn nats_servers_of_both_versions_start_and_come_back() {
    for options in [Options::default(), Options { version: OLDEST, ..Options::default() }] {
        let mut server = Nats::start_with(&options);
        server.kill();
        server.start_again();
        server.stop();
        server.wipe();
        server.start_again();
    }
}

#[test]
fn three_nats_servers_start_together() {
    assert_eq!(NatsCluster::start().nodes.len(), 3);
}
