"""Words of questions whose answer is another one tomorrow. Read without accents and in small letters.

A pattern that takes too much costs an answer that could have been kept; one that takes too little tells
somebody the weather of last week. So what people look up daily is named, with the words around it.
"""

import re

_START = r"(?:^|(?<=[.!?;:,¿¡]))\s*"
_END = r"(?=\s*(?:[.!?;,)]|$))"
_IS = r"(?: is|'s|s)"

_ASSET = (
    r"(?:bitcoin|btc|ethereum|ether|eth|dogecoin|litecoin|solana|cardano|ripple|crypto|gold|silver|platinum|"
    r"copper|crude|oil|brent|gasoline|petrol|diesel|natural gas|wheat|nasdaq|dow jones|s&p(?: 500)?|"
    r"ibex(?: 35)?|ftse|nikkei|(?:us )?dollar|euro|pound|yen|peso|yuan|rupee|ruble|franc)"
)
_SPANISH_ASSET = (
    r"(?:bitcoins?|btc|ethereum|eth|dogecoin|oro|plata|platino|cobre|petroleo|brent|gasolina|diesel|gasoil|"
    r"gasoleo|luz|nasdaq|dow jones|ibex(?: 35)?|dolar|euro|libra|yen|peso|yuan)"
)
_MONEY = (
    r"(?:usd|eur|gbp|jpy|cny|inr|mxn|ars|brl|chf|cad|aud|cop|clp|btc|eth|bitcoins?|"
    r"(?:us |canadian )?dollars?|euros?|pounds?|yen|yuan|rupees?|pesos?(?: mexicanos| argentinos)?|francs?|"
    r"libras?|dolar(?:es)?|yenes|yuanes|francos?|soles|reales|[€$£¥])"
)
_AMOUNT = rf"(?:{_MONEY}|[€$£¥] ?\d[\d.,]*)"
_ASKS = (
    r"(?:what|which|how|why|who|when|where|define|explain|describe|is|are|the|a|an|does|do|can|should|to|about|"
    r"write|wrote)\b"
)

_ENGLISH = rf"""
    (?:generate|give|pick|choose|create|make|draw|suggest|invent|need|want)\b(?:\W+\w+){{0,5}}?\W+(?:random|password|
        passphrase|passcode|pin|otp|uuid|guid|token|secret|nonce|salt)s?
    at random|random (?:number|password|word|name|colou?r|string|letter|digit|fact|joke|quote|card)s?
    (?:roll|flip|toss|throw)\b(?:\W+\w+){{0,3}}?\W+(?:coin|dice|die)s?
    now|nowadays|today|tonight|tomorrow|yesterday|currently|latest|newest|recent|recently|lately
    (?<!alternating )(?<!direct )(?<!electric )(?<!electrical )(?<!ocean )
        current(?= (?!in |through |flow|of )\w)
    (?:this|last|next|past|coming) (?:\d+ |few |two |three )?(?:minute|hour|morning|afternoon|evening|
        night|day|week|weekend|month|quarter|year|season|decade|
        monday|tuesday|wednesday|thursday|friday|saturday|sunday)s?
    at (?:the|this) moment|at present|these days|so far|as of|up[- ]to[- ]date|just happened|ago
    what (?:time|day|date|year|month) is it|time is it|(?:the|what{_IS}) (?:date|time){_END}
    what day of the week is it|what (?:year|month|day) are we in
    (?:the|what{_IS}|local) time in(?! (?:the|a|an|which|music|physics|milliseconds|seconds|minutes|hours)\b)
    (?:days|weeks|months|hours) (?:left )?(?:until|till)|when (?:is|are|will|does) the next
"""
_ENGLISH_LOOKUPS = rf"""
    (?:how|what)(?:{_IS}| will)? the weather|(?:check|show|get|give|tell)(?: me)? the weather
    weather (?:forecast |report |conditions )?(?:like |be )?(?:in|for|at|near|around|outside|here|there)
    weather like|weather forecast{_END}
    (?:is it|isn't it|will it|is it going to)(?: be| still| really)? (?:rain|snow|hail|storm|raining|snowing|
        hailing|pouring|storming|sunny|cloudy|windy|foggy|icy|humid|freezing|(?:hot|cold|warm) outside)
    (?:is it|will it)(?: be)? (?:hot|cold|warm|chilly) in(?! (?:the|space)\b)
    how (?:hot|cold|warm) (?:is it|will it be)
    need (?:an umbrella|a coat|a jacket)(?: in \w+| outside)?{_END}
    temperature (?:outside|here|
        in (?!(?:kelvin|celsius|fahrenheit|degrees|physics|chemistry|which|space|stars)\b)[a-z]+){_END}
    (?:when|what time) (?:is|does) (?:the )?(?:sunset|sunrise|sun set|sun rise)
    {_ASSET} (?:stock |share |spot )?(?:prices?|quote|exchange rate|rate)(?! (?:elasticity|theory|ceiling))
    (?:price|value|quote|cost)s? of (?:a |an |one |1 |the )?(?:(?:share|barrel|ounce|gallon|gram) of )?
        (?:{_ASSET}|gas|stocks?|shares?)(?:{_END}| (?:in|per|at|against)\b)
    how much (?:is|does|are) (?:a |an |one |1 |the )?{_ASSET}(?: cost| worth| trading(?: at)?)?{_END}
    (?<!\ba )(?<!\bof )(?<!\bthe )(?<!\bis )(?<!\bdo )(?<!\bhow )(?:stock|share) price{_END}
    (?:stock|share) prices? (?:of|for)(?! (?:a|an|stocks|companies|firms)\b)
    (?:is|are|how{_IS}|how are) the (?:stock )?markets?(?: open| closed| up| down| doing)?{_END}
    the exchange rate{_END}|exchange rates? (?:between|from|to|for|of) (?:the )?{_MONEY}
    {_AMOUNT} ?(?:/|to|into|in|vs\.?|against|a|en|=) ?(?:the )?{_MONEY}
    how many {_MONEY} (?:\w+ ){{1,4}}?{_AMOUNT}
    gas prices?(?: in| near|{_END})|mortgage rates?(?: in|{_END})
    (?<!wrote )(?<!composed )the score{_END}|the score (?:of|in) the (?:\w+ )?(?:game|match|final)
    (?:who{_IS}|are they) (?:winning|in the lead|ahead|leading){_END}
    (?:league|la liga|bundesliga|nba|nfl|nhl|mlb) (?:table|standings|scores?|results?)
    (?:how{_IS}|what{_IS}|check) (?:the )?traffic (?:in|on|to|near|around|like|report)
    how{_IS} (?:the )?traffic{_END}|traffic (?:report|update|jams? (?:on|in|near))
    traffic (?:on|near|around|to) (?:the )?(?:[aimn]-?\d+|highway|freeway|motorway|airport|downtown)
    (?:is there|any)(?: any| much| heavy| a lot of)? traffic (?:on|in|to|near|around)
    news (?:about|on|from|of|for|regarding)(?! (?:a|an|wheels|nowhere)\b)|the news{_END}
    (?:any|breaking|top|local|world|more) news{_END}|headlines{_END}
    what{_IS} new (?:in|with|on|at)(?! .*\d)|what{_IS} (?:the news|trending)
    what{_IS} (?:happening|going on) (?:in|with|at)(?! (?:this|that|the|my|a|an)\b)
    live (?:scores?|streams?|updates?|results?|coverage|traffic|prices?|feed|news)(?! of)
    flight status|still alive|is \w+ (?:down|offline){_END}
"""
# These are all that a text, or a sentence of it, says.
_ENGLISH_ALONE = rf"""
    (?!{_ASKS})(?:[\w'&-]+ ){{1,4}}(?:weather(?: forecast)?|news|score|traffic)
    weather (?:in )?\w+|news|headlines|weather|traffic|traffic (?:in|on|to|near|around) .{{2,40}}?
    did (?:it|they|we) (?:rain|snow|win|lose)
"""
_SPANISH = rf"""
    (?:genera|dame|elige|escoge|crea|sugiere|inventa|necesito|quiero)\w*(?:\W+\w+){{0,5}}?\W+(?:contraseña|clave|
        pin|otp|uuid|guid|token|secreto)s?|al azar|(?:numero|palabra|nombre|color|dato)s? aleatori[oa]s?
    (?:tira|lanza)\w*(?:\W+\w+){{0,3}}?\W+(?:moneda|dado)s?
    ahora|hoy|ayer|anoche|anteayer|actualmente|recien|recientes?|recientemente|ultim[oa]s?
    (?<!the )actual(?:es)?(?! (?:size|value|number|cost|meaning|name|result|text|data)\b)
    (?<!la )mañana|esta (?:mañana|tarde|noche|semana)
    este (?:dia|mes|año|fin de semana|trimestre|momento)
    (?:semana|mes|año|dia|fin de semana|trimestre|noche) (?:pasad[oa]|proxim[oa]|que viene)
    (?:proxim[oa]|pasad[oa]) (?:semana|mes|año|dia)|cuando (?:es|sera) (?:el|la) proxim[oa]
    hasta la fecha|en (?:este|estos) momentos?|hace poco
    que (?:hora|dia|fecha|año|mes) es|(?:que|cual) es la (?:fecha|hora){_END}
    (?:dias|semanas|meses|horas) (?:faltan|quedan)|cuanto (?:falta|queda) para
"""
_SPANISH_LOOKUPS = rf"""
    que tiempo (?:hace|hara|hizo|tenemos|va a hacer)
    (?:que tal|como|cual) (?:es |esta |estara |va a estar |sera )?el (?:tiempo|clima)
        (?= en\b|\W*$)
    pronostico (?:del tiempo|del clima|para|en)|prevision del tiempo|temperatura (?:hace|hay|hara)
    temperatura en (?!(?:celsius|kelvin|grados|fisica|quimica|fahrenheit|el|la|los|las|un|una)\b)\w+{_END}
    (?:esta|estara|sigue) (?:lloviendo|nevando|granizando|nublado|soleado)|(?:va|ira) a (?:llover|nevar)
    (?:llovera|nevara)|necesito paraguas|a que hora (?:sale|se pone|amanece|anochece)
    (?:precio|valor|cotizacion)(?:es)? (?:actual )?(?:del|de la|de los|de las|de el|de|por) (?:un |una |1 )?
        (?:(?:barril|onza|gramo|litro|accion|acciones) de(?:l)? )?(?:la )?{_SPANISH_ASSET}
    (?:precio|cotizacion|valor) de las? acci(?:on|ones) de|cotizacion de(?:l)? \w+{_END}
    a (?:cuanto|como) (?:esta|cotiza)|cuanto (?:vale|cuesta|cotiza|es)(?:
         el| la| un| una| 1)? {_SPANISH_ASSET}{_END}
    cual es el tipo de cambio{_END}|tipo de cambio (?:del?|entre|euro|dolar)|(?:tasa de )?cambio
        del? (?:dolar|euro|peso|yen|libra)
    cuant[oa]s {_MONEY} (?:\w+ ){{1,4}}?{_AMOUNT}
    (?:como|que tal) (?:va|esta|abrio|cerro|abre|cierra) (?:la bolsa|el ibex|el mercado)
    resultados? (?:del? (?:partido|juego|la liga|la jornada)|en directo)
    como (?:va|quedo|van|quedaron) el (?:partido|juego|marcador)
    quien(?:es)? (?:va|van|esta|estan) ganando|va ganando
    (?:clasificacion|tabla) de la (?:liga|premier|champions)
    (?:como|que tal) (?:esta|va) el trafico|hay (?:mucho )?(?:trafico|atasco|atascos) (?:en|hacia|para)
    (?:estado del )trafico|trafico en (?:la|el) (?:[am]-?\d+|autopista|autovia|ronda|centro)
    noticias (?:de|del|sobre|en|acerca)|las noticias{_END}|titulares{_END}|que hay de nuevo(?! .*\d)
    que (?:esta )?(?:pasando|sucediendo|ocurriendo) (?:en|con)(?! (?:este|esta|el|la|mi|un|una)\b)
    (?:ver|resultados?|partido|marcador|transmision|retransmision|noticias|minuto a minuto)(?: \w+){{0,4}}
        (?= en (?:vivo|directo)\b)
    sigue (?:vivo|viva|con vida)|estado del vuelo
"""
_SPANISH_ALONE = r"""
    (?:llueve|nieva|hace (?:frio|calor|sol|viento|buen tiempo|mal tiempo))(?: fuera|
         aqui| (?:en|por) [\w ]{2,30}?)?
    (?:el )?(?:tiempo|clima|trafico) (?:en|para) (?!(?:la|los|las|un|una|fisica|musica)\b)[\w ]{2,25}?
    (?:(?:ultimas )?noticias|titulares)(?: \w+)?
"""


def _joined(lines: str) -> str:
    """Patterns, one a line, as one; a line that is indented more goes on with the one before."""
    return "|".join(re.sub(r"\n {8}", "", lines).strip().split("\n    "))


def _words(lines: str) -> str:
    return rf"(?<!\w)(?:{_joined(lines)})(?!\w)"


def _sentences(lines: str) -> str:
    return rf"{_START}(?:{_joined(lines)}){_END}"


ENGLISH_MOMENT = re.compile(_words(_ENGLISH))
SPANISH_MOMENT = re.compile(_words(_SPANISH))
ENGLISH_LOOKUP = re.compile(f"{_words(_ENGLISH_LOOKUPS)}|{_sentences(_ENGLISH_ALONE)}")
SPANISH_LOOKUP = re.compile(f"{_words(_SPANISH_LOOKUPS)}|{_sentences(_SPANISH_ALONE)}")
