"""What a band is called: the project's word for names in the languages of the large mapping agencies."""

import re
import unicodedata

_ENGLISH = {
    "red": ("red", "r"),
    "green": ("green", "g"),
    "blue": ("blue", "b"),
    "nir": ("nir", "near infrared", "near ir", "nearinfrared", "infrared", "n", "nir1"),
    "rededge": ("rededge", "red edge", "re"),
    "greeni": ("green i", "green 1", "greeni"),  # PlanetScope's band 3, a shorter green beside the usual one
    "coastal": ("coastal", "coastal blue", "coastal aerosol", "aerosol"),
    "yellow": ("yellow",),
    "pan": ("pan", "panchromatic"),
    # STAC's common names for Sentinel-2's and Landsat's bands go with them.
    "rededge1": ("rededge1", "rededge071"),
    "rededge2": ("rededge2", "rededge075"),
    "rededge3": ("rededge3", "rededge078"),
    "nir08": ("nir08", "narrow nir"),
    "swir1": ("swir1", "swir 1", "swir16"),
    "swir2": ("swir2", "swir 2", "swir22"),
    "gray": ("gray", "grey", "greyscale", "grayscale"),
}
# Bulgarian, Catalan, Chinese, Croatian and Serbian, Czech and Slovak, Danish and Norwegian, Dutch, Estonian, Finnish,
# French, German, Greek, Hungarian, Icelandic, Indonesian, Italian, Japanese, Korean, Latvian, Lithuanian, Polish,
# Portuguese, Romanian, Russian, Slovenian, Spanish, Swedish, Turkish, Ukrainian, Vietnamese.
_ELSEWHERE = {
    "red": (
        "rot roter rotes rouge rojo roja vermelho vermelha vermell rosso rossa rood röd rött rød rødt rauður punainen "
        "czerwony czerwona červená červený červený crvena crveni crven rdeča rdeč piros vörös roșu roşu rosu красный "
        "красная красное червоний червона червен червено црвена црвени κόκκινο ερυθρό kırmızı punane sarkans sarkanā "
        "raudona raudonas merah đỏ 红 紅 红色 紅色 红波段 赤 赤色 빨강 빨간 적색"
    ),
    "green": (
        "grün grüner grünes gruen vert verte verde verd groen grön grønn grøn grænn vihreä zielony zielona zelená "
        "zelený zelena zeleni zelen zöld зелёный зеленый зелёная зеленая зелений зелена зелен зелено πράσινο yeşil "
        "roheline zaļš zaļā žalia žalias hijau lục 绿 綠 绿色 綠色 緑 緑色 녹색 초록"
    ),
    "blue": (
        "blau blauer blaues bleu bleue azul blu azzurro blauw blå blátt blár sininen niebieski niebieska modrá modrý "
        "modra moder plava plavi plav kék albastru синий синяя синее голубой синій синя син синьо плава μπλε κυανό "
        "mavi sinine zils zilā mėlyna mėlynas biru lam 蓝 藍 蓝色 藍色 青 青色 파랑 청색"
    ),
    "nir": (
        "pir nahinfrarot infrarot nahes_infrarot nahes_ir proche_infrarouge proche_ir infrarouge infrarrojo "
        "infrarrojo_cercano irc infravermelho infravermelho_próximo infraroig infraroig_proper infrarosso "
        "infrarosso_vicino vicino_infrarosso infrarood nabij_infrarood nära_infraröd närinfraröd infraröd "
        "nær_infrarød nærinfrarød infrarød nær_infrarautt lähi_infrapuna lähi-infrapuna infrapuna "
        "bliska_podczerwień podczerwień blízké_infračervené blízká_infračervená infračervená infracrveno "
        "blisko_infracrveno bližnji_infrardeči infrardeče közeli_infravörös infravörös infraroșu "
        "infraroșu_apropiat ближний_инфракрасный ближняя_инфракрасная инфракрасный ближній_інфрачервоний "
        "інфрачервоний близък_инфрачервен εγγύς_υπέρυθρο υπέρυθρο yakın_kızılötesi kızılötesi lähiinfrapuna "
        "tuvais_infrasarkanais artimoji_infraraudonoji inframerah inframerah_dekat cận_hồng_ngoại hồng_ngoại 近红外 "
        "近紅外 红外 近赤外 赤外 근적외 근적외선"
    ),
    "rededge": "bordo_rosso borde_rojo bord_rouge rote_kante 红边 紅邊 レッドエッジ",
    "pan": "panchromatisch panchromatique pancromático pancromatico 全色",
}
_GENERIC = frozenset(
    (
        *("band", "bands", "bande", "banda", "bandas", "kanal", "canal", "canale", "kanaal", "channel", "layer"),
        *("layers", "couche", "spektralband", "raster", "image", "ortho", "orthophoto", "orthomosaic", "mosaic"),
        *("reflectance", "radiance", "surface", "toa", "boa", "nan", "none", "undefined", "unknown", "untitled"),
    )
)
"""Words of a description that tell no band from another."""


def _plain(text: str) -> str:
    """Without case and accents, words apart by single blanks: `Grün`, `GRÜN` and `gru\u0308n` are `grun`."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    bare = bare.translate(str.maketrans("øłđı", "oldi"))
    return re.sub(r"[\W_]+", " ", bare).strip()


_SYNONYMS = {_plain(text): name for name, texts in _ENGLISH.items() for text in texts}
for _name, _texts in _ELSEWHERE.items():
    for _text in _texts.split():
        _SYNONYMS.setdefault(_plain(_text), _name)
_WORDS = sorted((word for word in _SYNONYMS if len(word) > 2 or not word.isascii()), key=len, reverse=True)


def canonical(name: str) -> str:
    """The project's word for a band name: `NIR`, `near infrared`, `Nahes Infrarot` are `nir`; others as they are."""
    words = _plain(name)
    return _SYNONYMS.get(words, _SYNONYMS.get(words.replace(" ", ""), words or name.strip().lower()))


def name_in(description: str | None) -> str | None:
    """The band name in a description: the whole of it, or the one known word in it ("B4 - Red", "Kanal 1 (Rot)")."""
    if not description:
        return None
    whole = canonical(description)
    if whole in _ENGLISH:
        return whole
    rest, found = _plain(description), set[str]()
    for word in _WORDS:  # the longest first, so that `red edge` is not taken for red
        pattern = re.escape(word) if _unspaced(word) else rf"\b{re.escape(word)}\b"
        rest, times = re.subn(pattern, "|", rest)
        if times:
            found.add(_SYNONYMS[word])
    if "coastal" in found:
        found.discard("blue")
    return found.pop() if len(found) == 1 else None


def words_unknown(description: str | None) -> frozenset[str]:
    """The words of a description that name something, though this program does not know what; codes are none."""
    words = _plain(description or "").split()
    return frozenset(
        w for w in words if w not in _GENERIC and w not in _SYNONYMS and w.isalpha() and (len(w) > 2 or not w.isascii())
    )


def _unspaced(word: str) -> bool:
    """Whether a word is written in a script that puts no blanks between words."""
    return any(unicodedata.name(c, "").startswith(("CJK", "HANGUL", "KATAKANA")) for c in word)
