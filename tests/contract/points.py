"""The fifteen points in which an Ollama server surprises its clients, as a strict fake must, and the tests that ask.

`REASONS` says of a point what no test asks of a real server, and why. test_points.py keeps both true.
"""

from collections.abc import Mapping

POINTS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "uploads: 201, 200 unread, 400, 404; the served file need not be the uploaded one",
        (
            "test_blobs.test_blob_is_uploaded_once",
            "test_blobs.test_blob_statuses",
            "test_blobs.test_digest_in_other_spellings",
            "test_blobs.test_served_file_may_differ_from_the_uploaded_one",
        ),
    ),
    2: (
        "the order of create's lines; status or error line; `success` last",
        (
            "test_create.test_create_tells_its_steps_in_order",
            "test_create.test_errors_before_and_inside_a_stream",
            "test_create.test_create_refuses_a_bad_request_by_a_status",
            "test_create.test_file_never_uploaded_is_an_error_line",
            "test_create.test_template_that_is_none_is_refused",
        ),
    ),
    3: (
        "names, `latest`, letters' case, tags with a meaning",
        (
            "test_models.test_names",
            "test_models.test_tags_with_a_meaning_are_not_ours",
            "test_models.test_copy_and_delete_refuse_what_is_no_name",
        ),
    ),
    4: (
        "show and tags differ in capabilities",
        (
            "test_models.test_capabilities_come_from_show",
            "test_format.test_way_of_calling",
            "test_models.test_list_and_show_describe_a_model",
            "test_prompts.test_poorer_go_template_is_overruled",
        ),
    ),
    5: (
        "400 for tools and thinking that a model cannot; thinking that nobody asked for; thoughts before a held answer",
        (
            "test_models.test_tools_of_a_model_without_them",
            "test_models.test_thinking_is_on_where_a_model_can",
            "test_format.test_thinking_is_asked_for_where_show_finds_it",
            "test_format.test_model_with_a_template_of_its_own_thinks_before_it_is_held",
            "test_format.test_model_behind_a_go_template_is_asked_twice",
            "test_format.test_model_that_does_not_think_although_asked_is_not_held",
        ),
    ),
    6: (
        "calls that are lost (Go), calls in the last chunk with long ids (native)",
        (
            "test_tools.test_tool_call_makes_the_round_trip",
            "test_tools.test_lost_calls_with_a_go_template",
            "test_tools.test_native_calls_come_with_the_last_chunk",
            "test_tools.test_call_cut_by_the_limit",
            "test_format.test_call_cut_by_the_limit_is_an_end",
            "test_format.test_format_wins_over_tools",
        ),
    ),
    7: (
        "streams that end without `done`",
        (
            "test_chat.test_stream_without_an_end_is_an_aborted_answer",
            "test_chat.test_native_answers_may_repeat_themselves",
        ),
    ),
    8: (
        "overflow, encoded twice",
        ("test_chat.test_overflow_is_wrapped_twice", "test_chat.test_conversation_that_does_not_fit"),
    ),
    9: (
        "500 for parameters of the wrong type",
        (
            "test_create.test_badly_typed_parameter_shows_at_the_first_question",
            "test_create.test_badly_typed_option_is_a_500",
        ),
    ),
    10: ("load, unload, keep_alive, ps after delete", ("test_models.test_load_unload_and_keep_alive",)),
    11: ("503 of a full queue", ("test_chat.test_busy_server_says_so",)),
    12: ("an error line inside a stream", ("test_create.test_errors_before_and_inside_a_stream",)),
    13: (
        "created, but does not load",
        (
            "test_create.test_model_that_is_created_but_does_not_load",
            "test_adapters.test_adapter_of_another_base_is_found_out_at_the_first_question",
        ),
    ),
    14: ("a runner in the old template mode until it is unloaded", ("test_prompts.test_stale_runner_is_unloaded",)),
    15: (
        "the served prompt is the trained prompt",
        (
            "test_prompts.test_served_prompt_is_the_trained_prompt",
            "test_prompts.test_tools_reach_the_template_reduced_and_in_order",
        ),
    ),
}
REASONS: Mapping[int, str] = {
    3: "a model under the tag `cloud` is made on the fake only: a real server lists it and no call deletes it again",
    11: "the fake only: filling a real server's queue takes 512 questions at once from whoever is using it",
    14: "that the runner is stale without the unload is shown on the fake only: it is a bug that a server may lose",
}
