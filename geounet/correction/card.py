"""The card of an adapter: what it is made of, whom it needs, how good it is."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geounet.correction.adapt import Checked, Start
from geounet.correction.fit import Fitted
from geounet.correction.read import Corrections
from geounet.model.bundle import SHIPPED, ModelBundle, models_folder
from tiles.legend import Legend
from tiles.scene.scene import Scene


def adapter_card(
    bundle: ModelBundle,
    legend: Legend,
    start: Start,
    fitted: Fitted,
    checked: Checked,
    corrections: Corrections,
    scene: Scene,
    name: str | None,
) -> dict[str, Any]:
    """The fields of `ModelCard` of an adapter on `bundle`, or on its base where it is one itself."""
    base = bundle.base or bundle
    earlier = bundle.card.adapter.corrected if bundle.card.adapter else ()
    fingerprint = scene.fingerprint()
    here = {"scene": Path(scene.path).name, "fingerprint": fingerprint, "corrections": corrections.counts()}
    others = [part.model_dump(mode="json") for part in earlier if part.fingerprint != fingerprint]
    before, after = checked.accuracy
    card = base.card.model_dump(mode="json", exclude={"weights", "scores", "training"})
    return {
        **card,
        "name": name or _name(f"{base.name}-corrected"),
        "version": "1",
        "description": f"{base.name}, corrected on {Path(scene.path).name} ({len(corrections)} corrections).",
        "legend": legend.as_records(),
        "temperature": round(fitted.temperature, 6),
        "training": {
            **base.card.training.model_dump(mode="json"),
            "config": {
                "agreed_before": round(before, 4),
                "agreed_after_cross_validated": round(after, 4),
                "corrections": float(checked.total.sum()),
            },
            "command": "geounet correct",
        },
        "adapter": {
            "base": {"name": base.name, "digest": base.digest, "folder": _hint(base)},
            "starts": [list(part) for part in start.starts],
            "strength": fitted.strength,
            "corrected": [*others, here],
        },
    }


def _hint(base: ModelBundle) -> str:
    return "" if base.folder.parent in (SHIPPED, models_folder()) else str(base.folder.absolute())


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)


def adapter_readme(card: Mapping[str, Any]) -> str:
    """The card for people."""
    told = card["training"]["config"]
    rows = "\n".join(
        f"| {part['scene']} | {', '.join(f'{n} {c}' for c, n in part['corrections'].items())} |"
        for part in card["adapter"]["corrected"]
    )
    return (
        f"# {card['name']}\n\n{card['description']}\n\n"
        f"An adapter: a few small layers on the model `{card['adapter']['base']['name']}`, which it needs "
        f"(digest {card['adapter']['base']['digest'][:12]}...).\n\n"
        f"Of its {told['corrections']:g} corrections the base agreed with {100 * told['agreed_before']:.0f} %, an "
        f"adapter that did not see them with {100 * told['agreed_after_cross_validated']:.0f} % (cross-validated over "
        "squares of 64 pixels).\n\n"
        f"| scene | corrections |\n|---|---|\n{rows}\n\n"
        "What was drawn and where is in `corrections.geojson`; who drew it is not kept.\n"
    )
