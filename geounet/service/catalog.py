"""The models a service offers: the shipped bundles and those of one further folder."""

import logging
from functools import cached_property
from pathlib import Path

from geounet.errors import BundleError
from geounet.model.bundle import DEFAULT_BUNDLE, MODEL_FILE, SHIPPED, ModelBundle, ModelCard, shipped_bundles
from geounet.service.errors import NotFoundError

log = logging.getLogger("geounet.service.catalog")


class Catalog:
    """Bundles by name. A name is a key of this table and never becomes part of a path."""

    def __init__(self, extra: Path | None = None, preferred: str | None = None) -> None:
        self._extra = extra
        self._preferred = preferred or DEFAULT_BUNDLE

    @cached_property
    def cards(self) -> dict[str, ModelCard]:
        """Every usable model's card, by name, in order; read once. A damaged bundle is left out."""
        return {name: bundle.card for name, bundle in self._bundles.items()}

    def card(self, name: str) -> ModelCard:
        """Raises NotFoundError, naming the models that there are."""
        return self._bundle(name).card

    def locate(self, name: str) -> Path:
        """The bundle's folder. Raises NotFoundError."""
        return self._bundle(name).folder

    def colours(self, name: str) -> dict[int, tuple[int, int, int]]:
        """The model's colours by value of the class; none for a model that is not installed any more."""
        bundle = self._bundles.get(name)
        return {c.value: c.color for c in bundle.card.legend} if bundle is not None else {}

    @property
    def default(self) -> str | None:
        """The model for a request that names none; None where no model is installed."""
        return self._preferred if self._preferred in self.cards else next(iter(self.cards), None)

    def _bundle(self, name: str) -> ModelBundle:
        bundle = self._bundles.get(name)
        if bundle is None:
            known = ", ".join(self._bundles) or "none"
            raise NotFoundError(f"there is no model '{name}', choose from: {known}", "model")
        return bundle

    @cached_property
    def _bundles(self) -> dict[str, ModelBundle]:
        folders = [SHIPPED / name for name in shipped_bundles()]
        if self._extra is not None:
            folders += [path.parent for path in sorted(self._extra.resolve().glob(f"*/{MODEL_FILE}"))]
        found: dict[str, ModelBundle] = {}
        for folder in folders:
            try:
                bundle = ModelBundle.load(folder)
            except BundleError as error:
                log.warning("model left out: %s", error)
                continue
            found.setdefault(bundle.name, bundle)
        return dict(sorted(found.items()))
