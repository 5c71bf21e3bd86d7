"""The last engine, kept warm between scenes."""

from dataclasses import replace

from geounet.engines.choose import needs_preparing, open_engine
from geounet.engines.engine import Engine
from geounet.mapping.plan import Plan
from geounet.model.bundle import ModelBundle


class EngineShelf:
    """Keeps the last engine warm, so that many scenes pay for loading and compiling once."""

    def __init__(self) -> None:
        self._key: tuple[str, Plan] | None = None
        self._engine: Engine | None = None

    def takes_long(self, bundle: ModelBundle, plan: Plan) -> bool:
        """Whether `get` has to prepare the model first, which a person should be told."""
        if self._key == _key(bundle, plan):
            return False
        return needs_preparing(
            bundle, plan.spec, plan.chip_size, plan.upsample, plan.tta, plan.context, compiled=plan.compiled
        )

    def get(self, bundle: ModelBundle, plan: Plan) -> Engine:
        """The engine for `plan`, from the shelf where it fits."""
        key = _key(bundle, plan)
        if self._engine is None or self._key != key:
            self._engine = None
            self._engine = open_engine(
                bundle, plan.spec, plan.chip_size, plan.upsample, plan.tta, plan.context, compiled=plan.compiled
            )
            self._key = key
        return self._engine


def _key(bundle: ModelBundle, plan: Plan) -> tuple[str, Plan]:
    return bundle.digest, replace(plan, overlap=0, block_chips=0)  # an engine knows chips, not how they lie
