"""A legend as a QGIS layer style."""

from xml.etree import ElementTree as ET

from tiles.legend import LandClass, Legend


def qml(legend: Legend) -> str:
    """QML text that draws polygons by `class_id` in the legend's colours; no outlines, so neighbours touch."""
    root = ET.Element("qgis", version="3.28.0", styleCategories="Symbology")
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr="class_id", symbollevels="0", enableorderby="0"
    )
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for number, land_class in enumerate(legend.classes):
        ET.SubElement(
            categories,
            "category",
            symbol=str(number),
            value=str(land_class.value),
            label=land_class.name,
            render="true",
            type="long",
        )
        _symbol(symbols, number, land_class)
    text = ET.tostring(root, encoding="unicode")
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{text}"


def _symbol(parent: ET.Element, number: int, land_class: LandClass) -> None:
    symbol = ET.SubElement(parent, "symbol", type="fill", name=str(number), alpha="1", clip_to_extent="1")
    attributes = {"class": "SimpleFill", "enabled": "1", "locked": "0"}
    layer = ET.SubElement(symbol, "layer", attributes, **{"pass": "0"})
    options = ET.SubElement(layer, "Option", type="Map")
    colour = ",".join(map(str, (*land_class.color, 255)))
    for name, value in (("color", colour), ("style", "solid"), ("outline_style", "no")):
        ET.SubElement(options, "Option", type="QString", name=name, value=value)
