"""The sample's words in Chinese, for MMBench-CN."""

from __future__ import annotations

from collections.abc import Sequence

from dataset_scripts.sample.vocabulary import COLOR_NAMES, MATERIALS, SHAPES

_HUES = {
    "red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色", "turquoise": "青绿色", "blue": "蓝色",
    "purple": "紫色", "black": "黑色", "white": "白色", "grey": "灰色",
}  # fmt: skip
_SHADES = {"light": "浅", "dark": "深"}
_SHAPES = ("圆形", "正方形", "三角形", "星形", "十字形", "圆环", "心形", "月牙", "箭头", "沙漏", "半圆", "花形")
_MATERIALS = (
    "塑料", "条纹", "圆点", "棋盘格", "木头", "金属", "藤编", "石头", "砖", "锯齿纹", "玻璃", "瓷砖", "纸", "陶瓷",
)  # fmt: skip


def _color(name: str) -> str:
    shade, _, hue = name.rpartition(" ")
    return _SHADES.get(shade, "") + _HUES[hue]


_PLACES = {
    "top left": "左上角", "top right": "右上角", "bottom left": "左下角", "bottom right": "右下角",
    "left": "左边", "right": "右边", "top": "上面", "bottom": "下面", "": "中间",
}  # fmt: skip
_WORDS = (
    {name: _color(name) for name in COLOR_NAMES}
    | dict(zip(SHAPES, _SHAPES, strict=True))
    | dict(zip(MATERIALS, _MATERIALS, strict=True))
    | _PLACES
    | {"yes": "是", "no": "不是"}
)
_QUESTIONS = {
    "color": "{}是什么颜色？",
    "border": "{}的边框是什么颜色？",
    "material": "{}的表面是什么样的？",
    "shape": "图中{}的物体是什么形状？",
    "colorVerify": "{}是{}的吗？",
}


def word(name: str) -> str:
    """An answer in Chinese."""
    return _WORDS[name]


def question(detailed: str, words: Sequence[str]) -> str:
    """A question in Chinese, from its kind and the words that it is about."""
    return _QUESTIONS[detailed].format(*map(word, words))
