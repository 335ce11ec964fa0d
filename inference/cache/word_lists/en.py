"""English, as the gate of the semantic cache reads it."""

import re

from inference.cache.word_lists.moment import ENGLISH_LOOKUP, ENGLISH_MOMENT
from inference.cache.word_lists.shape import Language, counted, forms, groups, phrases, words

_ASK = r"(?=(what|which|who|whom|whose|when|where|why|how)\b)"
_ONE = r"(i|you|we|one|someone|somebody)"
_BE = r"(is|are|was|were)"

# In an order that lets a later line build on an earlier one.
_PHRASES = rf"""
    ^(hi|hello|hey|greetings|good (morning|afternoon|evening))( there| all| everyone)?( ,)? →
    ^(ok|okay|so|well)( ,)? {_ASK} →
    ^(please|kindly)( ,)? →
    (, )?(please|pls)$ →
    (, )?(many )?(thanks|thank you|thx|cheers)( in advance| so much| very much| a lot)?$ →
    ^(can|could|would|will) (you|someone|anyone|anybody)( please| kindly)? (?=(tell|explain|show|
        describe|give|list|write|translate|summarize|define|recommend|suggest|compare|calculate|convert|
        generate|name|provide|teach)\b) →
    ^(would you mind|do you mind) (telling|explaining to) me →
    ^(do you( happen to)? know|does (anyone|anybody|someone) know|any idea|i wonder|i am wondering|
        i was wondering|i am curious|i want to know|i would like to know|i need to know|
        i would love to know) {_ASK} →
    ^(tell|teach|show|explain to|explain|let) (me )?(know )?{_ASK} →
    ^(tell me|let me know|do you( happen to)? know|i wonder|i was wondering|i want to know|
        i would like to know) (if|whether) →
    ^what the (.+) {_BE}$ → what \2 the \1
    how come → why
    for (what|which) reason → why
    ^what {_BE} the reason (that|why) → why
    ^in (what|which) way (can|could|do) {_ONE} → howto
    ^how (do|can) you (?=(store|process|handle|generate|answer|respond|reply|train|decide|protect|
        collect|save|remember|ensure|verify|treat|bill|charge|ship|deliver|support|update)\b) → how you
    ^how (do|can|could|would) {_ONE} (?!(feel|know|think|look|sound|see|like|differ|compare|do|have|
        mean|be|not|still|already)\b|(work|learn|live|sleep|exist|eat)$) → howto
    ^how (does|can|could|would) (one|someone|somebody|a person) (?!(feel|know|think|work|look|sound|
        not)\b) → howto
    ^how to (?!not\b) → howto
    ^what (is|are) (the|a) (way|method|procedure|process|steps|instructions) (to|for) (?!\w+ing\b) → howto
    ^what (do|should|must) {_ONE} (do|need to do|have to do) to → howto
    ^what steps (do|should|must) {_ONE} (take|follow) to → howto
    ^(is there|are there) (a|any|some) (way|ways|method) to → is it possible to
    ^what does (.+) (mean|stand for)$ → meaningof \1
    ^what {_BE} meant by → meaningof
    ^what (is|are) the (meaning|definition)s? of → meaningof
    ^define → meaningof
    ^(meaning|definition) of → meaningof
    ^what (is|are) (.+) (called|named)$ → nameof \2
    ^what (was|were) (.+) (called|named)$ → was nameof \2
    ^what (is|are) the names? of → nameof
    ^what (was|were) the names? of → was nameof
    ^what do you call → nameof
    ^how (tall|high) {_BE} (.+)$ → what \2 the height of \3
    ^how old {_BE} (.+)$ → what \1 the age of \2
    ^how deep {_BE} (.+)$ → what \1 the depth of \2
    ^how wide {_BE} (.+)$ → what \1 the width of \2
    ^how heavy {_BE} (.+)$ → what \1 the weight of \2
    ^how (big|large) {_BE} (.+)$ → what \2 the size of \3
    ^how much (does|do) (.+) weigh$ → what is the weight of \2
    ^how much (does|do) (.+) cost$ → what is the price of \2
    ^how many (people|inhabitants) (live in|are there in|reside in) (.+)$ → what is the population of \3
    ^how many inhabitants (does|do) (.+) have$ → what is the population of \2
    ^what is the cost of → what is the price of
    ^(what|which) (is|are) the location of → where is
    ^in (what|which) (place|location) → where
    ^where {_BE} (.+) (located|situated)$ → where \1 \2
    ^where (.+) {_BE} (located|situated)$ → where \1 \2
    ^what {_BE} the (birthplace|place of birth) of (.+)$ → where was \3 born
    ^what {_BE} the (date of birth|birth date|birthdate) of (.+)$ → when was \3 born
    ^what {_BE} the date of death of (.+)$ → when did \2 die
    ^who {_BE} the (author|writer)s? of → who wrote
    ^who {_BE} the inventors? of → who invented
    ^who {_BE} the founders? of → who founded
    ^who {_BE} the discoverers? of → who discovered
    ^who {_BE} the creators? of → who created
    ^how (do|does) (.+) and (.+) differ$ → difference between \2 and \3
    ^how (do|does) (.+) differ from (.+)$ → difference between \2 and \3
    ^how (is|are) (.+) different from (.+)$ → difference between \2 and \3
    ^what (is|are) the differences? between → difference between
    ^differences? between → difference between
    ^(what|which) {_BE} the (\w+) (that|which) (?!(is|are|was|were)\b) → which \3
    ^(what|which) (is|are) the →
    ^in which (?=(year|month|country|city|state|century|decade)\b) → which
    ^in what (?=(year|month|country|city|state|century|decade)\b) → which
    ^at what time → which time
    in the year (?=\d\d\d\d\b) → in
    what (kind|kinds|sort|sorts|type|types) of → which type of
    which (kind|kinds|sort|sorts|type|types) of → which type of
    the number of → how many
    a lot of → many
    a few → afew
    a little → alittle
    lots of → many
    in order to → to
    as well as → and
    instead of → rather than
    because of → due to
    united states( of america)? → usa
    u\.s\.(a\.)? → usa
    US → usa
    u\.k\. → uk
    united kingdom → uk
    european union → eu
    e\.u\. → eu
    united nations → un
    artificial intelligence → ai
    operating systems? → os
    operating temperatures? → operating temperature
    world war → ww
    (actually|exactly|basically) →
    & → and
    js → javascript
    ts → typescript
    k8s → kubernetes
"""

_SYNONYMS = groups("""
    start begin commence
    finish complete
    big large
    fast quick rapid
    buy purchase
    fix repair
    use utilize utilise
    happen occur
    choose select pick
    help assist
    show display
    get obtain
    create make
    delete remove erase
    allow permit let
    easy simple
    smart intelligent clever
    ill sick
    rich wealthy
    hard difficult
    which what
    movie film
    child kid
    mother mom mum
    father dad
    doctor physician
    lawyer attorney
    car automobile
    company firm
    nation country
    job occupation profession
    photo photograph
    phone telephone
    television tv
    fridge refrigerator
    information info
    airplane plane aeroplane
    bicycle bike
    math maths mathematics
    laboratory lab
    repository repo
    database db
    documentation docs
    configuration config
    advertisement ad advert
    percent per-cent %
    inside within
    about regarding concerning
    nearly almost
    usually normally
    often frequently
    although though
    maybe perhaps
    mistake error
    present gift
    trip journey
    salary wage pay
    reply answer respond
    colour color
    centre center
    favourite favorite
    flavour flavor
    behaviour behavior
    neighbour neighbor
    labour labor
    honour honor
    humour humor
    harbour harbor
    theatre theater
    metre meter m metres meters
    kilometre kilometer km kilometres kilometers
    centimetre centimeter cm centimetres centimeters
    millimetre millimeter mm millimetres millimeters
    litre liter l litres liters
    kilogram kilo kg kilograms kilos
    gram g grams
    milligram mg milligrams
    hour hr hours hrs
    minute minutes
    mile miles
    in during
    grey gray
    organise organize
    realise realize
    recognise recognize
    analyse analyze
    optimise optimize
    summarise summarize
    customise customize
    initialise initialize
    normalise normalize
    visualise visualize
    minimise minimize
    maximise maximize
    programme program
    catalogue catalog
    dialogue dialog
    defence defense
    licence license
    cheque check
    tyre tire
    aluminium aluminum
""")

_PAST = """
    became=become began=begin bent=bend bit=bite blew=blow broke=break brought=bring built=build bought=buy
    caught=catch chose=choose came=come crept=creep dealt=deal dug=dig drew=draw drank=drink drove=drive
    ate=eat fell=fall fed=feed felt=feel fought=fight found=find flew=fly forgot=forget
    froze=freeze got=get gave=give
    went=go grew=grow heard=hear hid=hide held=hold kept=keep knew=know led=lead left=leave lent=lend
    lost=lose made=make meant=mean met=meet paid=pay rode=ride rang=ring rose=rise ran=run said=say saw=see
    sold=sell sent=send shook=shake shot=shoot sang=sing sank=sink sat=sit slept=sleep spoke=speak spent=spend
    stood=stand stole=steal stuck=stick struck=strike swam=swim took=take taught=teach tore=tear told=tell
    thought=think threw=throw understood=understand woke=wake wore=wear won=win wrote=write
    died=die tied=tie lied=lie
"""

_S = """
    men=man women=woman children=child feet=foot teeth=tooth mice=mouse geese=goose goes=go has=have
    knives=knife wives=wife wolves=wolf shelves=shelf halves=half
    dies=die ties=tie lies=lie series=series species=species
    indices=index matrices=matrix criteria=criterion analyses=analysis crises=crisis
"""

ENGLISH = Language(
    marks=words(
        "the is are was were do does did how what which who when where why can could should would will of "
        "to and in on for with from my your an it this that i you we they he she not have has at by or be "
        "meaningof howto nameof there tell explain give please about write list name compare recommend "
        "describe define summarize translate some all any"
    ),
    phrases=phrases(_PHRASES),
    articles=frozenset({"a", "an", "the"}),
    indefinite=frozenset({"a", "an"}),
    generic_plural=frozenset(),
    helpers={
        **dict.fromkeys(("is", "are", "am"), "be"),
        **dict.fromkeys(("was", "were"), "was"),
        **dict.fromkeys(("do", "does"), "do"),
        "did": "did",
    },
    modals=words("can could will would shall should may might must"),
    synonyms=_SYNONYMS,
    irregular={**forms(_PAST, "past"), **forms(_S, "s")},
    invariable=words(
        "this his its is was as us gas bus yes less always across news plus unless versus whereas perhaps "
        "thus various previous famous serious delicious dangerous mathematics physics economics politics "
        "athletics statistics ethics series species means besides sometimes towards afterwards bed red "
        "need speed seed feed exceed proceed succeed indeed hundred breed bleed shed sled wed embed "
        "united mars paris texas arkansas kansas james chris athens wales states does has goods glasses "
        "clothes customs arms looks contents savings lens"
    ),
    literal=words(
        "say says said translate translation spell spelled spelling pronounce pronunciation rewrite "
        "rephrase paraphrase proofread correct conjugate rhyme rhymes word phrase sentence quote lyrics"
    ),
    fronting=words("in on at for during with under using"),
    free_verb_after=frozenset(),
    numbers=counted(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen"
    )
    | counted("twenty thirty forty fifty sixty seventy eighty ninety", start=20, step=10),
    scales={"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000},
    ordinals=counted(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth", start=1
    ),
    number_joint="and",
    thousands=",",
    moment=ENGLISH_MOMENT,
    lookup=ENGLISH_LOOKUP,
    personal=re.compile(
        r"\b(?:my|mine|myself|our|ours|ourselves|about me|(?:who|where|what|how old) am i)\b"
    ),
)
