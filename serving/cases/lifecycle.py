"""Cases that change folders or restart a server: what they are and which tests do them.

They cannot be asked of somebody's running server; the tests do them to the stand-in.
"""

from __future__ import annotations

from dataclasses import dataclass

from bnpipe.serving.cases.case import Match

_LIFECYCLE = "tests/serving/local/test_lifecycle.py"
_MANAGER = "tests/serving/local/test_manager.py"
_LABELS = "tests/serving/local/test_labels_under_load.py"


@dataclass(frozen=True)
class Operation:
    """Something that happens to a server.

    Attributes:
        number: its number.
        title: what happens, and what should follow.
        match: how literally errors are compared.
        test: `file::function`.
        seen: whether the outcome was seen on a real server; else it was read in its source.
    """

    number: int
    title: str
    match: Match
    test: str
    seen: bool = False


OPERATIONS = (
    Operation(
        88,
        "a version arrives by rename under constant load: no request fails",
        Match.JSON,
        f"{_LABELS}::test_a_version_that_arrives_by_rename_fails_no_request",
        seen=True,
    ),
    Operation(
        89,
        "names that are no versions change nothing",
        Match.JSON,
        f"{_MANAGER}::test_names_that_are_no_versions_change_nothing",
        seen=True,
    ),
    Operation(
        90,
        "an empty folder ends with an error, for good; the version before serves on",
        Match.SUB,
        f"{_MANAGER}::test_an_empty_folder_ends_with_an_error_and_the_old_version_stays",
    ),
    Operation(
        91,
        "a version without variables does not load (the real server makes it AVAILABLE)",
        Match.SUB,
        f"{_LIFECYCLE}::test_versions_that_cannot_be_loaded_end_and_the_old_one_stays",
        seen=True,
    ),
    Operation(
        92,
        "a lower number is never served",
        Match.EXACT,
        f"{_MANAGER}::test_a_lower_number_is_never_served",
    ),
    Operation(
        93,
        "bytes of a live version are read once",
        Match.JSON,
        f"{_LIFECYCLE}::test_bytes_of_a_live_version_are_read_once",
    ),
    Operation(
        94,
        "the newest version goes under load: the one before is back, no request fails",
        Match.JSON,
        f"{_LABELS}::test_a_version_that_arrives_by_rename_fails_no_request",
        seen=True,
    ),
    Operation(
        95,
        "a folder that goes away for a while is still served",
        Match.JSON,
        f"{_MANAGER}::test_a_folder_that_goes_away_for_a_while_is_still_served",
    ),
    Operation(
        96,
        "a label moves in two edits and never in one",
        Match.JSON,
        f"{_LABELS}::test_one_edit_that_lists_a_version_and_moves_the_label_never_converges",
    ),
    Operation(
        97,
        "a restart with labels needs the flag",
        Match.EXACT,
        f"{_LIFECYCLE}::test_the_process_with_labels_needs_the_flag",
        seen=True,
    ),
    Operation(
        98,
        "a warmup request that fails, or the 1001st, fails the load",
        Match.SUB,
        f"{_LIFECYCLE}::test_a_warmup_request_that_fails_fails_the_load",
    ),
    Operation(
        99,
        "other tags do not load",
        Match.SUB,
        f"{_LIFECYCLE}::test_other_tags_do_not_load",
    ),
    Operation(
        99,
        "memory levels off over 50 swaps",
        Match.JSON,
        f"{_LIFECYCLE}::test_memory_levels_off_over_many_swaps",
        seen=True,
    ),
)
