"""Words of questions whose answer is another one tomorrow. Read without accents and in small letters.

A pattern that takes too much costs an answer that could have been kept; one that takes too little tells
somebody the weather of last week. So what people look up daily is named, with the words around it.
"""

import re

_START = r"(?:^|(?<=[.!?;:,¿¡]))\s*"
_END = r"(?=\s*(?:[.!?;,)]|$))"

_ASSET = (
    r"(?:bitcoin|btc|ethereum|ether|eth|dogecoin|litecoin|solana|cardano|ripple|crypto|gold|silver|platinum|copper|"
    r"crude|oil|brent|gasoline|petrol|diesel|natural gas|wheat|nasdaq|dow jones|s&p(?: 500)?|ibex(?: 35)?|ftse|nikkei|"
    r"(?:us )?dollar|euro|pound|yen|peso|yuan|rupee|ruble|franc)"
)
_ACTIVO = (
    r"(?:bitcoins?|btc|ethereum|eth|dogecoin|criptomonedas?|oro|plata|platino|cobre|petroleo|brent|gasolina|diesel|"
    r"gasoil|gasoleo|luz|nasdaq|dow jones|ibex(?: 35)?|dolar|euro|libra|yen|peso|yuan|acciones|acción|accion)"
)
_MONEY = (
    r"(?:usd|eur|gbp|jpy|cny|inr|mxn|ars|brl|chf|cad|aud|cop|clp|btc|eth|bitcoins?|(?:us |canadian )?dollars?|euros?|"
    r"pounds?|yen|yuan|rupees?|pesos?(?: \w+)?|francs?|libras?|dolar(?:es)?|yenes|yuanes|francos?|soles|reales|[€$£¥])"
)
_AMOUNT = rf"(?:{_MONEY}|[€$£¥] ?\d[\d.,]*)"

_ENGLISH = rf"""
    now|nowadays|today|tonight|tomorrow|yesterday|currently|latest|newest|recent|recently|lately
    (?<!alternating )(?<!direct )(?<!electric )(?<!electrical )(?<!ocean )current(?= (?!in |through |flow|of )\w)
    (?:this|last|next|past|coming) (?:\d+ |few |two |three )?(?:minute|hour|morning|afternoon|evening|night|day|week|weekend|month|quarter|year|season|decade|monday|tuesday|wednesday|thursday|friday|saturday|sunday)s?
    at (?:the|this) moment|at present|these days|so far|as of|up[- ]to[- ]date|just happened|ago|as we speak
    what (?:time|day|date|year|month) is it|time is it|(?:the|what is|what's|whats) (?:date|time){_END}
    what (?:day of the week|year|month) (?:is it|is this|are we in)|(?:the|what is|what's|local) time in (?!(?:the|a|an|which|music|physics)\b)
    (?:days|weeks|months|hours) (?:\w+ )?(?:left )?(?:until|till)|when (?:is|are|will|does) the next
    # weather
    (?:how|what)(?: is|'s|s| will| was)? the weather|(?:check|show|get|give|tell)(?: me)? the weather
    weather (?:forecast |report |conditions )?(?:like |be )?(?:in|for|at|near|around|outside|here|there)
    weather like|weather forecast{_END}
    (?:is it|isn't it|will it|is it going to)(?: be| still| really)? (?:rain|snow|hail|storm|pour|rain(?:ing)|snowing|hailing|pouring|storming|sunny|cloudy|windy|foggy|icy|humid|freezing|cold outside|hot outside|warm outside)
    (?:is it|will it|how)(?: be)? (?:hot|cold|warm|chilly)(?: is it)? (?:in (?!the\b)\w+|outside|out|here|there){_END}
    need (?:an umbrella|a coat|a jacket)(?: in \w+| outside)?{_END}
    temperature (?:outside|here|in (?!(?:kelvin|celsius|fahrenheit|degrees|physics|chemistry|which|space|stars)\b)[a-z]+){_END}
    (?:when|what time) (?:is|does) (?:the )?(?:sunset|sunrise|sun set|sun rise)
    # prices and rates
    {_ASSET} (?:stock |share |spot )?(?:price|prices|quote|exchange rate|rate)(?! (?:elasticity|theory|mechanism|ceiling))
    (?:price|value|quote|cost)s? of (?:a |an |one |1 |the )?(?:share of |barrel of |ounce of |gallon of |gram of )?(?:{_ASSET}|gas|stock|shares?){_END}
    (?:price|value|quote|cost)s? of (?:a |an |one |1 |the )?{_ASSET} (?:in|per|at|against|right)
    how much (?:is|does|are|for) (?:a |an |one |1 |the )?{_ASSET}(?: cost| worth| trading(?: at)?)?{_END}
    how much (?:is|are) .{{1,30}} (?:stock|shares) (?:worth|trading)
    (?<!\ba )(?<!\bof )(?<!\bthe )(?<!\bis )(?<!\bare )(?<!\bdo )(?<!\bhow )(?:stock|share) price{_END}
    (?:stock|share) prices? (?:of|for) (?!(?:a|an|stocks|companies|firms)\b)
    (?:stock )?markets? (?:open|closed|up|down|doing){_END}
    (?:is|are|how is|how are) the (?:stock )?markets?{_END}
    the exchange rate{_END}|(?:the )?exchange rates? (?:between|from|to|for|of) (?:the )?{_MONEY}
    {_AMOUNT} ?(?:/|to|into|in|vs\.?|against(?: the)?|a|en|=) ?(?:the )?{_MONEY}
    (?:how many|cuantos|cuantas) {_MONEY} (?:\w+ ){{1,4}}(?:\d[\d.,]* |a |an |one |un |una )?{_AMOUNT}
    gas prices?(?: in| near|{_END})|mortgage rates?(?: in|{_END})
    # scores
    (?<!wrote )(?<!composed )the score{_END}|the score (?:of|in) the (?:\w+ )?(?:game|match|final)|(?:live|final) scores?{_END}
    score (?:of|between) (?:the )?[\w ]{{2,25}} (?:vs\.?|against|game|match)
    (?:who is|who's|whos|are they|is anyone) (?:winning|in the lead|ahead|leading)(?! (?:in|cause|factor)\b)
    (?:league|premier league|la liga|bundesliga|serie a|nba|nfl|nhl|mlb) (?:table|standings|scores?|results?)
    # traffic, news, what is live
    (?:how is|how's|hows|check|what is|what's) (?:the )?traffic (?:in|on|to|near|around|like|now|report)|how(?: is|'s|s) (?:the )?traffic{_END}
    traffic (?:report|update|jams? (?:on|in|near)|conditions)|traffic (?:like )?(?:on|near|around|to) (?:the )?(?:[aimn]-?\d+|highway|freeway|motorway|bridge|work|airport|downtown|here)
    (?:any|is there|is there any|much|heavy|lot of) traffic (?:on|in|to|near|around)
    news (?:about|on|from|of|for|regarding)(?! (?:a|an|wheels|nowhere)\b)|the news{_END}|(?:any|breaking|top|local|world|more) news{_END}|headlines{_END}
    what(?:'s|s| is) (?:new (?:in|with|on|at)|the news|happening|going on|trending|up with)
    live (?:score|scores|stream|streams|update|updates|results?|coverage|traffic|price|prices|feed|news)(?! of)
    flight status|still alive|is \w+ (?:\w+ )?(?:down|offline){_END}
"""
_ENGLISH_ALONE = r"""
    (?!what|how|why|who|define|explain|describe|is|are|the|does|do|can|should|under|severe|about|to)(?:\w+ ){1,3}weather(?: forecast)?
    weather \w+
    (?!what|how|why|who|define|explain|describe|is|are|a|an|the|does|do|can|should|bad|fake|good|about|to|write)(?:\w+ ){1,3}news
    (?!what|how|why|who|define|explain|describe|is|are|a|an|the|does|do|can|should|credit|good|test|z|apgar|to|keep)(?:\w+ ){1,4}score
    (?!what|how|why|who|define|explain|describe|is|are|a|an|the|does|do|can|should|web|network|road|air|human|drug|to)(?:\w+ ){1,3}traffic
    news|headlines|weather|traffic
    traffic (?:in|on|to|near|around) .{2,40}
    did (?:it|they|we) (?:rain|snow|win|lose)
"""
