//! What every license engine promises, held by each of them over its stand-in.
//!
//! [`contract::Subject`] says what an engine must bring to be held to it, and [`every_case`] makes a test of each case.

#![expect(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

/// Makes a test of every case for one subject.
macro_rules! every_case {
    ($subject:ty) => {
        crate::cases!($subject, creating:
            a_license_is_made_as_asked,
            licenses_have_keys_of_their_own,
            asked_twice_there_is_one,
            two_creators_at_once_are_seen,
            a_license_without_end_has_none,
            what_cannot_be_sent_is_refused_and_nothing_is_made,
            an_owner_is_set_by_the_create_itself,
            an_unknown_owner_is_refused,
            find_by_reference_passes_over_decoys,
            a_sweep_shows_every_license_of_the_product,
            several_licenses_resume_where_one_failed,
            what_was_made_is_there_after_a_restart,
        );
        crate::cases!($subject, changing:
            every_change_may_be_asked_twice,
            expiry_is_set_to_what_is_asked,
            a_long_lapsed_license_comes_back,
            seats_go_up_and_down,
            features_go_up_and_down,
            limits_are_taken_away_and_given_back,
            a_suspended_license_stays_so_until_reinstated,
            a_revoked_license_is_paid_again,
            a_change_with_a_lost_reply_may_simply_be_asked_again,
            a_license_that_is_gone_is_refused,
        );
        crate::cases!($subject, adopting:
            a_license_made_by_hand_becomes_ours,
            adopting_twice_is_adopting_once,
            a_stopped_license_that_is_adopted_works_again,
            an_adoption_that_breaks_off_is_taken_up_again,
            an_adopted_license_without_a_limit_of_seats_keeps_none,
            one_that_carries_another_reference_is_refused,
            one_of_another_product_is_refused,
            one_that_belongs_to_somebody_else_is_refused,
            one_that_is_not_there_is_refused,
            what_another_integration_made_for_the_sale_is_found,
        );
        crate::cases!($subject, failing:
            a_create_of_unknown_outcome_makes_one_license,
            a_create_that_did_nothing_makes_one_license_later,
            a_refusal_is_one_and_makes_nothing,
            a_slow_engine_makes_one_license,
            an_engine_that_asks_for_it_is_left_alone,
            a_look_up_is_never_of_unknown_outcome,
            a_token_that_ran_out_parks_nothing_and_says_what_to_mend,
            an_engine_that_is_away_was_sent_nothing,
            a_search_that_lags_makes_no_second_license,
            under_a_mix_of_faults_there_is_one_license_each,
        );
        crate::cases!($subject, people:
            somebody_is_made_once,
            somebody_made_by_a_lost_reply_is_found_again,
            two_customers_with_one_address_are_two_where_the_engine_allows_it,
            a_customer_without_a_name_has_a_stable_one,
            names_may_be_long_and_in_any_script,
            somebody_without_an_address_is_made_or_refused,
            a_new_name_and_address_arrive,
            a_sweep_shows_every_customer,
        );
    };
}

macro_rules! cases {
    ($subject:ty, $module:ident: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                crate::$module::$case::<$subject>().await;
            }
        )*
    };
}

pub(crate) use {cases, every_case};

mod contract;

mod adopting;
mod changing;
mod creating;
mod failing;
mod people;

mod builtin;
mod cryptlex;
mod cryptolens;
mod keygen;
mod stub;
