"""What can go wrong with models and with the work; `tiles.errors` covers pixels and geometry."""


class GeounetError(Exception):
    """Root of every error this package raises on purpose."""


class OptionError(GeounetError):
    """A value that an option does not take; `option` is its name in `geounet.options.Options`."""

    def __init__(self, text: str, *, option: str) -> None:
        super().__init__(text)
        self.option = option

    def __str__(self) -> str:
        return f"{self.option}: {self.args[0]}"

    def __reduce__(self) -> tuple[object, ...]:
        return _option_error, (self.args[0], self.option)


def _option_error(text: str, option: str) -> OptionError:
    return OptionError(text, option=option)


class BundleError(GeounetError):
    """A bundle is missing, damaged, or made for another version of this program."""


class EngineError(GeounetError):
    """The network cannot be run as asked for: no such device, engine not installed."""


class MismatchError(GeounetError):
    """Scene and bundle do not fit each other: resolution, bands or values."""


class ResourceError(GeounetError):
    """Not enough memory or disk for the work."""


class TrainingError(GeounetError):
    """A training configuration or its data cannot be used."""


class StatisticsError(GeounetError):
    """Zones, points or maps that no numbers can be given for."""


class CorrectionError(GeounetError):
    """Corrections of a map cannot be used, or do not fit the map."""
