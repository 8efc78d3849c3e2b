"""Timers that hold the watermark at an earlier time than they fire.

Beam's protocol has such timers, but its Python API does not (https://github.com/apache/beam/issues/20705, open). A
timer of the API holds the watermark at the time when it fires, and rows that wait for it would be late. So this module
writes the timer's message itself, with the private parts of `OutputTimer` that its own `set` uses.
"""

from typing import Any

from apache_beam.runners.worker.bundle_processor import OutputTimer
from apache_beam.transforms import userstate
from apache_beam.utils.timestamp import Timestamp

from penstock.io.errors import ConfigError


def set_holding_timer(timer: Any, fires: int, holds: int) -> None:
    """Sets an event-time timer of a DoFn.

    Args:
      timer: the object that a DoFn gets for its `TimerParam`.
      fires: the time when it fires, microseconds since 1970.
      holds: the time where it holds the output watermark until then, microseconds since 1970, at most `fires`.

    Raises:
      ConfigError: when the runner's timers cannot hold the watermark: windows would silently drop rows as late.
    """
    if not isinstance(timer, OutputTimer):
        raise ConfigError(
            f"this runner's timers ({type(timer).__name__}) cannot hold the watermark, so that rows that wait for one "
            "would be dropped as late; run the stream on Prism, Flink or Dataflow (--runner=PrismRunner)"
        )
    message = userstate.Timer(
        user_key=timer._key,
        # Prism 2.77 fails when a timer is set again with another hold time, so each pair of times has its own tag.
        dynamic_timer_tag=f"{holds}:{fires}",
        windows=(timer._window,),
        clear_bit=False,
        fire_timestamp=Timestamp(micros=fires),
        hold_timestamp=Timestamp(micros=holds),
        paneinfo=timer._paneinfo,
    )
    timer._timer_coder_impl.encode_to_stream(message, timer._output_stream, True)
    timer._output_stream.maybe_flush()
