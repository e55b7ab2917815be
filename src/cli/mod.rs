//! The command line: what can be asked for, and how it ends.
//!
//! Exit codes: 0 fine, 1 failed, 2 wrong use, 3 ran and found something, 4 not reachable.

mod args;
mod backup;
mod balance;
mod cases;
mod catalog;
mod check;
mod customers;
mod doctor;
mod events;
mod events_export;
mod events_import;
mod health;
mod init;
mod licenses;
mod open;
mod read;
mod reconcile;
mod repair;
mod replay;
mod sandbox;
mod schemas;
mod up;

use std::io;
use std::process::ExitCode;

use clap::Parser;

pub use args::{Arguments, Demo, Verb};
pub use events::hex;
pub use init::{make_data_dir, make_token, random_token};
pub use open::{absolute, shown};
pub use read::{CASES, Column, LICENSES, table};

use crate::output::{Exit, NotReachable, Output, WrongUse};
use crate::settings::{BadSettings, Environment, Settings};
use up::Role;

/// What every verb is given.
pub struct Context {
    /// The arguments that all verbs share.
    pub shared: args::Shared,
    /// The variables of the process.
    pub environment: Environment,
    /// How to speak.
    pub output: Output,
}

impl Context {
    /// The settings, with every problem in them.
    ///
    /// # Errors
    ///
    /// [`BadSettings`]: exit with 2.
    pub fn settings(&self) -> Result<Settings, BadSettings> {
        Settings::load(self.shared.config.as_deref(), &self.environment)
    }

    /// Who is at the terminal, for the log: `--by`, else the user's name.
    ///
    /// # Errors
    ///
    /// [`WrongUse`] when neither is known.
    pub fn actor(&self, by: Option<&str>) -> Result<String, WrongUse> {
        by.or_else(|| self.environment.get("USER"))
            .or_else(|| self.environment.get("LOGNAME"))
            .map(str::to_owned)
            .ok_or_else(|| WrongUse("who is doing this? say `--by NAME`".to_owned()))
    }
}

/// Runs the process: reads the arguments, does what they ask, and says how it ended.
pub async fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; clap prints to the right stream and knows its codes: 0 and 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let environment = Environment::of_process();
    let color = !arguments.shared.no_color
        && environment.get("NO_COLOR").is_none()
        && io::IsTerminal::is_terminal(&io::stdout());
    let output = Output { json: arguments.shared.json, quiet: arguments.shared.quiet, color };
    crate::telemetry::start(&environment, arguments.shared.quiet || !runs_a_service(arguments.verb.as_ref()));
    let context = Context { shared: arguments.shared, environment, output };
    let verb = arguments.verb.unwrap_or_default();
    match Box::pin(dispatch(&context, verb)).await {
        Ok(Exit::Fine) => ExitCode::SUCCESS,
        Ok(Exit::Found) => ExitCode::from(3),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain is printed once, here.
            let _ = io::Write::write_fmt(&mut io::stderr().lock(), format_args!("keyledger: {error:#}\n"));
            ExitCode::from(code(&error))
        }
    }
}

/// Whether log lines are part of what is asked for. Verbs that answer a question only say what went wrong.
fn runs_a_service(verb: Option<&Verb>) -> bool {
    matches!(
        verb,
        None | Some(
            Verb::Up(_) | Verb::Ingest(_) | Verb::Issuer(_) | Verb::Projector(_) | Verb::Console(_) | Verb::Sandbox(_)
        )
    )
}

async fn dispatch(context: &Context, verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Up(up) => Box::pin(up::run(context, &up)).await,
        Verb::Ingest(role) => Box::pin(up::run_role(context, Role::Ingest, &role)).await,
        Verb::Issuer(role) => Box::pin(up::run_role(context, Role::Issuer, &role)).await,
        Verb::Projector(role) => Box::pin(up::run_role(context, Role::Projector, &role)).await,
        Verb::Console(role) => Box::pin(up::run_role(context, Role::Console, &role)).await,
        Verb::Demo(demo) => Box::pin(crate::demo::run(context, &demo)).await,
        Verb::Init(init) => init::run(context, &init).await,
        Verb::Doctor => doctor::run(context).await,
        Verb::Health(health) => health::run(context, &health).await,
        Verb::Cases(cases) => cases::run(context, cases).await,
        Verb::Customers(customers) => read::customers(context, customers).await,
        Verb::Subscriptions(subscriptions) => read::subscriptions(context, subscriptions).await,
        Verb::Licenses(licenses) => licenses::run(context, licenses).await,
        Verb::Events(events) => events::run(context, events).await,
        Verb::Catalog => catalog::run(context).await,
        Verb::Search(search) => read::search(context, &search).await,
        Verb::Replay(replay) => replay::run(context, &replay).await,
        Verb::Check => check::run(context).await,
        Verb::Repair(repair) => repair::run(context, &repair).await,
        Verb::Reconcile(reconcile) => reconcile::run(context, &reconcile).await,
        Verb::Backup(backup) => backup::run(context, &backup).await,
        Verb::Schemas(schemas) => schemas::run(context, &schemas),
        Verb::Sandbox(sandbox) => sandbox::run(context, &sandbox).await,
    }
}

/// Whoever read our output has gone; that is their right.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|it| it.kind() == io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<BadSettings>() || cause.is::<WrongUse>() {
            return 2;
        }
        if cause.is::<NotReachable>() {
            return 4;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn each_way_to_end_has_its_code() {
        let wrong: anyhow::Result<()> = Err(WrongUse("x".to_owned()).into());
        let away = anyhow::Error::from(NotReachable("x".to_owned()));
        assert_eq!(code(&wrong.context("outer").unwrap_err()), 2);
        assert_eq!(code(&away.context("outer")), 4);
        assert_eq!(code(&BadSettings { problems: Vec::new() }.into()), 2);
        assert_eq!(code(&anyhow::anyhow!("x")), 1);
    }

    #[test]
    fn every_verb_has_help_with_an_example() {
        fn walk(command: &mut clap::Command) {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            assert!(help.contains("keyledger"), "{name} has no example:\n{help}");
            for inner in command.get_subcommands_mut().filter(|it| it.get_name() != "help") {
                walk(inner);
            }
        }
        let mut command = Arguments::command();
        command.build();
        walk(&mut command);
    }
}
