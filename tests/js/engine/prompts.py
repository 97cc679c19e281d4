# ruff: noqa: RUF001, SIM905  (look-alike letters are what this is about)
"""Prompts that meet the cleaning's rules and ftfy's repairs: by hand, by chance, and long ones."""

import random
from typing import Final

from ftfy.badness import MOJIBAKE_CATEGORIES
from ftfy.chardata import CHARMAP_ENCODINGS

from tests.diffusion.test_cleaning import PIECES

BY_HAND: Final = [
    "", " ", "a cat", "A Snowman on a BLUE background", "a red apple left of a green apple",
    "Portrait of Zoë in Öğüt's café, naïve art, 35mm — “golden hour”",
    "l'été à la plage, œuvre d'art, ça c'est déjà vu", "Größe über Straße, weiß und süß",
    "¿Dónde está el niño? ¡Aquí!", "Żółta łódź na jeziorze", "Příliš žluťoučký kůň",
    "красный кот на синем фоне", "ένας κόκκινος γάτος ΟΔΥΣΣΕΥΣ", "קשת בענן מעל הים",
    "قطة حمراء على خلفية زرقاء ١٢٣٤", "लाल बिल्ली", "ลูกแมวสีแดง", "붉은 고양이",
    "赤い猫 and a dog",
    "一只红色的猫坐在窗台上", "カタカナ ｶﾀｶﾅ ひらがな", "İstanbul'da ILIK ışık",
    "ǅungla ŉ ﬁne ﬂy ﬆone",
    "🚀🌕", "a 👩‍👩‍👧‍👦 with 🏳️‍🌈 and 👍🏽", "1️⃣ 2️⃣ ❤️ ☃",
    "𝒜 𝔣𝔞𝔫𝔠𝔶 𝕥𝕖𝕩𝕥", "e\u0301 vs \u00e9, n\u0303",
    "see https://example.com/a/b?c=d#e now", "http://x.de, www.cats.com/page_1, bob@cats.it",
    "follow @alice_99 and #cats #12 #123456", "C:\\pics\\cat.PNG and /tmp/x.webp",
    "“double” ‘single’ «angled» „low“ `ticks` ´acute´", "''''quoted'''' \"\"twice\"\"",
    '"a whole prompt in quotes"', "cats &amp; dogs &lt;3 &quot;yes&quot; &eacute; &#233; &#xe9;",
    "＆ａｍｐ； ＆lt； ＆#65； ＆＃６５； ＆＃ｘ４１； ＆EACUTE; ＆frac12；",
    "100%25 %E7%8C%AB+%41 %zz %",
    "dont%20worry+be+happy%21", "schÃ¶n, cafÃ©, â€œquotedâ€\x9d, donâ€™t, naÃ¯ve", "â€¦ Ã  la mode",
    "Ð¿Ñ€Ð¸Ð²ÐµÑ‚ Ð¼Ð¸Ñ€", "РџСЂРёРІРµС‚", "ã\x83\x84 ãƒ„ ðŸ˜€ ðŸ\x90\x88", "sÃƒÂ³lo voilÃ  vrai",
    "ＦＵＬＬ　ＷＩＤＴＨ １２３", "this-is-my_cute-cat_picture", "a-b-c",
    "IMG_20240101-12_33-x.jpeg",
    "1920x1080 20×30 1.5х2.5 8k", "jc6640 jc6640vc 6640vc231 j2d1a2a abc123def", "192.168.0.1:8080",
    "free shipping worldwide free shipping! Free download, click for more, page 12",
    "at 7:30 ", "wait... what .. ok . yes",
    "tabs\tand\nlines\r\nand\u2028more\u00a0space\u3000wide",
    "\ufeffbom \u200bzero \u200dwidth \u00adsoft",
    "\x1b[31mred\x1b[0m bell\x07 \x7f \x80 \x85 \x9d",
    "<person> <b>bold</b> &copy; &notit; &lt", "<&amp;> ＆ａｍｐ；", "a\\nb \\\\n",
    "ends with: ,-_+:",
    "..hidden", ".hidden", "-dash", "(((masterpiece:1.3))), [low quality], {a|b}", "½ cup ¼ of ²",
]  # fmt: skip

_WORDS: Final = [
    *"a the red blue small old cat dog house river on under with near light photo of".split(),
    *"café naïve œuvre “quoted” l’été Größe мир Ελλάδα ñandú šťastný łódź 😀 🏳️‍🌈 日本".split(),
    *"ｶﾅ ＡＢＣ ＆ＡＭＰ； ＆＃６５； ＆eacute； ＆lt ＆notit；".split(),
    *"ﷺ ＆FRAC12； … — – • ° £ € à la às".split(),
    *"ﬁn ŉ ǆ ﬆ ² ½ ı İ Σ ΑΣ ΑΣΑ ß %C3%A9 %e2%82%ac %ff %F0%80 + %zz".split(),
]
_SUSPECTS: Final = "".join(MOJIBAKE_CATEGORIES.values())
_PLANES: Final = [(0, 0x24F), (0, 0x2FFF), (0xF900, 0xFFFF), (0x10000, 0x1FFFF)]


def by_chance(count: int, seed: int) -> list[str]:
    """`count` prompts of pieces, words, mojibake in all of ftfy's encodings, and any characters."""
    dice = random.Random(seed)
    return ["".join(_piece(dice) for _ in range(dice.randint(1, 14))) for _ in range(count)]


def long_ones(count: int, seed: int) -> list[str]:
    """Prompts of 500 words."""
    dice = random.Random(seed)
    return [" ".join(dice.choice(_WORDS) for _ in range(500)) for _ in range(count)]


def mojibake(text: str, dice: random.Random) -> str:
    """`text` in UTF-8, read in a wrong encoding, once or twice, and perhaps damaged too."""
    for _ in range(dice.randint(1, 2)):
        encoded = text.encode()
        if dice.random() < 0.2:
            encoded = encoded.replace(b"\xa0", b" ")
        text = encoded.decode(dice.choice(CHARMAP_ENCODINGS))
        if dice.random() < 0.2:
            text = text.replace("\x9d", "\ufffd").replace("\x81", "\ufffd")
    return text


def _piece(dice: random.Random) -> str:
    match dice.choices(range(6), [40, 20, 15, 10, 5, 10])[0]:
        case 0:
            return dice.choice(PIECES)
        case 1:
            return dice.choice(_WORDS)
        case 2:
            return mojibake(" ".join(dice.choices(_WORDS, k=dice.randint(1, 3))), dice)
        case 3:
            code = dice.randint(*dice.choice(_PLANES))
            return "" if 0xD800 <= code <= 0xDFFF else chr(code)
        case 4:
            return "".join(dice.choices(_SUSPECTS, k=dice.randint(2, 5)))
        case _:
            return " "
