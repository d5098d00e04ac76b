"""Hours of the week in somebody's time zone: office hours, nights, weekends."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from responders.policy.section import Section

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)


class Hours(Section):
    """From ``from`` until before ``to`` on each of ``days``, by the clocks of ``zone``. Without a ``from``
    they begin with the day and without a ``to`` they end with it; a ``to`` that is not after ``from`` is on
    the next day.

    >>> nights = Hours.model_validate({"from": "22:00", "to": "07:00", "zone": "Europe/Berlin"})
    >>> late = datetime(2026, 7, 1, 21, 30, tzinfo=UTC)
    >>> nights.end_of(late).isoformat(), nights.end_of(late - timedelta(hours=2))
    ('2026-07-02T05:00:00+00:00', None)
    """

    days: frozenset[Day] = frozenset(DAYS)
    begin: Annotated[time, Field(alias="from")] = time(0)
    end: Annotated[time, Field(alias="to")] = time(0)
    zone: str = "UTC"

    @field_validator("begin", "end", mode="before")
    @classmethod
    def _clock(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = time.fromisoformat(value)
            except ValueError:
                raise ValueError('must be a time of day such as "08:30"') from None
        if not isinstance(value, time) or value.tzinfo is not None:
            raise ValueError('must be a time of day such as "08:30"')
        return value

    @field_validator("zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError):  # what is not found is an OSError, what is no name a ValueError
            raise ValueError(f"there is no time zone {name}: write one such as Europe/Berlin") from None
        except KeyError:
            raise ValueError(f"there is no time zone {name}: write one such as Europe/Berlin") from None
        return name

    def end_of(self, moment: datetime) -> datetime | None:
        """When the hours that ``moment`` is in are over, in UTC; None when it is in none of them.

        Hours that follow each other without a break count as one.
        """
        zone = ZoneInfo(self.zone)
        today = moment.astimezone(zone).date()
        end: datetime | None = None
        for offset in range(-1, 9):
            day = today + timedelta(days=offset)
            starts, stops = self._on(day, zone)
            if DAYS[day.weekday()] in self.days and starts <= (end or moment) < stops:
                end = stops
        return end

    def _on(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        last = day if self.end > self.begin else day + timedelta(days=1)
        starts = datetime.combine(day, self.begin, zone)
        return starts.astimezone(UTC), datetime.combine(last, self.end, zone).astimezone(UTC)

    def __contains__(self, moment: datetime) -> bool:
        return self.end_of(moment) is not None
