"""Which slots there are: cron as cron reads it, clocks that change, intervals."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from bnpipe.pipeline.configuration.timetable import Timetable, make_timetable
from tests.pipeline.schedule.stub_work import moment


def cron(text: str, zone: str = "UTC") -> Timetable:
    found = make_timetable(text, None, zone)
    assert found is not None
    return found


def texts(slots: list[datetime]) -> list[str]:
    return [f"{slot:%m-%d %H:%M}" for slot in slots]


@pytest.mark.parametrize("sunday", ["0", "7", "SUN"])
def test_sunday_is_0_and_7(sunday: str) -> None:
    slots = islice(cron(f"0 3 * * {sunday}").after(moment(2026, 11, 22, 3)), 2)
    assert texts(list(slots)) == ["11-29 03:00", "12-06 03:00"]


def test_monday_is_1() -> None:
    assert texts([next(cron("0 3 * * 1").after(moment(2026, 11, 22)))]) == ["11-23 03:00"]


def test_a_moment_is_not_after_itself() -> None:
    assert next(cron("0 3 * * *").after(moment(2026, 1, 1, 3))) == moment(2026, 1, 2, 3)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
@pytest.mark.parametrize("time_of_day", ["30 1", "30 2", "15 2", "0 3", "59 23"])
def test_a_time_of_day_comes_once_a_day_whatever_clocks_do(zone: str, time_of_day: str) -> None:
    slots = cron(f"{time_of_day} * * *", zone).newest(moment(2026, 1, 1), moment(2027, 1, 1), 1000)
    assert len(slots) == 365
    assert all(timedelta(hours=22) < b - a < timedelta(hours=26) for a, b in pairwise(slots))


def test_a_slot_in_the_hour_that_does_not_exist_comes_right_after_it() -> None:
    slots = cron("30 2 * * *", "America/New_York").newest(moment(2026, 3, 8), moment(2026, 3, 9), 9)
    assert texts(slots) == ["03-08 07:00"]  # 3:00 EDT


def test_slots_that_a_gap_brings_together_are_one() -> None:
    zone = "America/New_York"
    slots = cron("0,30 2,3 * * *", zone).newest(moment(2026, 3, 8), moment(2026, 3, 9), 9)
    assert texts(slots) == ["03-08 07:00", "03-08 07:30"]


def test_in_the_hour_that_comes_twice_the_clock_counts_only_for_wildcards() -> None:
    span = moment(2026, 11, 1, 4), moment(2026, 11, 1, 7)
    assert texts(cron("30 1 * * *", "America/New_York").newest(*span, 9)) == ["11-01 05:30"]
    hourly = cron("30 * * * *", "America/New_York").newest(*span, 9)
    assert texts(hourly) == ["11-01 04:30", "11-01 05:30", "11-01 06:30"]


def test_where_one_begins_to_look_does_not_change_the_slots() -> None:
    table = cron("*/30 1,2 * * *", "America/New_York")
    for day in (moment(2026, 3, 8), moment(2026, 11, 1)):
        end = day + timedelta(hours=12)
        whole = table.newest(day, end, 99)
        for minutes in range(0, 12 * 60, 7):
            start = day + timedelta(minutes=minutes)
            assert table.newest(start, end, 99) == [slot for slot in whole if slot > start]


def test_intervals_count_from_the_epoch() -> None:
    table = make_timetable(None, timedelta(hours=6), "UTC")
    assert table is not None
    slots = islice(table.after(moment(2026, 1, 1, 5)), 3)
    assert texts(list(slots)) == ["01-01 06:00", "01-01 12:00", "01-01 18:00"]


def test_after_a_jump_over_ten_years_only_its_end_is_looked_at() -> None:
    looked_at = []

    class Watched(Timetable):
        def after(self, start: datetime) -> Iterator[datetime]:
            for slot in super().after(start):
                looked_at.append(slot)
                yield slot

    table = Watched("*/5 * * * *", None, ZoneInfo("Europe/Berlin"))
    slots = table.newest(moment(2026, 1, 1), moment(2036, 1, 1), 10)
    assert texts(slots[-1:]) == ["01-01 00:00"] and len(slots) == 10
    assert len(looked_at) < 200  # of a million


@pytest.mark.parametrize(
    ("text", "zone", "told"),
    [
        ("61 * * * *", "UTC", "bad minute"),
        ("0 3 * *", "UTC", "not five fields"),
        ("0 0 30 2 *", "UTC", "day-of-month"),
        ("0 3 * * *", "Mars/Olympus", "Europe/Berlin"),
        ("0 3 * * *", "../etc/passwd", "IANA"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, zone: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_timetable(text, None, zone)
