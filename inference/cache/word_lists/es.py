"""Spanish, as the gate of the semantic cache reads it. Question words keep their accents."""

import re

from inference.cache.word_lists.moment import SPANISH_LOOKUP, SPANISH_MOMENT
from inference.cache.word_lists.shape import Language, counted, forms, groups, phrases, words
from inference.cache.word_lists.spanish_verbs import conjugated, passives

_WH = r"(qué|cuál|cuáles|quién|quiénes|cuándo|dónde|cómo|cuánto|cuánta|cuántos|cuántas)"
_ASK = rf"(?=((a|en|de|con|por|para|desde|hasta|sobre|contra) )?{_WH}\b)"
_SER = r"(es|son|fue|fueron|era|eran)"
_ART = r"(el|la|los|las)"
_INFINITIVE = r"(?=\w+([aei]r|[aei]r(me|te|se|lo|la|los|las|le|les|nos))\b)"

# In an order that lets a later line build on an earlier one.
_PHRASES = rf"""
    del → de el
    al → a el
    ^(hola|buenas|buenos dias|buenas (tardes|noches)|oye|oiga|disculpa|disculpe|perdona|
        perdone)( a todos)?( ,)? →
    ^(por favor|porfa|porfavor)( ,)? →
    (, )?(por favor|porfa|porfavor)$ →
    (, )?(muchas |mil )?gracias( de antemano)?$ →
    ^(me )?(puedes|puede|podrias|podria|pueden|podrian)( por favor)? (decir|explicar|indicar|contar|
        aclarar)(me|nos)? {_ASK} →
    ^(me )?(puedes|puede|podrias|podria|pueden|podrian)( por favor)? (?=(decir|explicar|indicar|dar|
        mostrar|listar|escribir|traducir|resumir|definir|recomendar|comparar|calcular|convertir|generar|
        nombrar)(me|nos)?\b) →
    ^(dime|digame|explicame|expliqueme|cuentame|indicame|aclarame|decir|decirme|explicarme|
        explicar) {_ASK} →
    ^(quiero|quisiera|querria|necesito|me gustaria|desearia)( poder)? saber {_ASK} →
    ^(sabes|sabe usted|sabe alguien|alguien sabe|alguien me puede decir|sabrias decirme|me pregunto|
        tienes idea de|no se) {_ASK} →
    a (que|qué) se debe que → por qué
    ^por (qué|cuál) (razon|motivo|causa) → por qué
    ^cuál {_SER} (la razon|el motivo|la causa) por (la|el) (que|cual) → por qué
    ^de qué (manera|forma|modo) → cómo
    ^cómo (puedo|puede uno|se puede|podria|podria yo|podemos|se podria|hay que) {_INFINITIVE} → howto
    ^cómo (hago|hacer|haces|le hago|se hace) para {_INFINITIVE} → howto
    ^cómo {_INFINITIVE} → howto
    ^cuál(es)? (es|son) (la|el|los|las) (manera|forma|modo|metodo|proceso|procedimiento|pasos) (de|
        para) {_INFINITIVE} → howto
    ^qué (debo|tengo que|hay que|se debe|puedo) hacer para {_INFINITIVE} → howto
    ^qué pasos (debo|tengo que|hay que) seguir para {_INFINITIVE} → howto
    ^(existe|hay) (alguna|una) (manera|forma|modo) de → es posible
    ^cómo se (llama|llaman|denomina|denominan) → es nameof
    ^cómo se (llamó|llamaba|llamaron|llamaban|denominó|denominaba) → fue nameof
    ^qué nombre (recibe|reciben|tiene|tienen) → es nameof
    ^qué nombre (recibió|recibieron|recibia|tenia|tuvo) → fue nameof
    ^cuál(es)? (es|son) (el|los) nombres? (de|que se le da a|que reciben?) → es nameof
    ^cuál(es)? (fue|era|fueron|eran) (el|los) nombres? de → fue nameof
    ^qué (significa|quiere decir) → es meaningof
    ^cuál(es)? (es|son) (el|la|los|las) (significado|definicion)(es)? de → es meaningof
    ^(significado|definicion) de → es meaningof
    ^define → es meaningof
    ^(cuánto|qué) (mide|miden) de (alto|altura) (.+)$ → cuál es la altura de \4
    ^qué altura (tiene|tienen) (.+)$ → cuál es la altura de \2
    ^qué edad (tiene|tienen) (.+)$ → cuál es la edad de \2
    ^cuántos años (tiene|tienen) (.+)$ → cuál es la edad de \2
    ^(cuánto pesa|cuánto pesan|qué peso tiene|qué peso tienen) (.+)$ → cuál es el peso de \2
    ^(cuánto cuesta|cuánto cuestan|cuánto vale|cuánto valen|qué precio tiene|
        qué precio tienen) (.+)$ → cuál es el precio de \2
    ^(cuántos habitantes tiene|cuántas personas viven en|
        cuántos habitantes hay en) (.+)$ → cuál es la poblacion de \2
    ^cuál es el coste? de → cuál es el precio de
    ^cuál(es)? (es|son) las? (ubicacion|localizacion|situacion)(es)? de → dónde está
    ^en qué (lugar|sitio) → dónde
    ^dónde (se encuentran?|está ubicad[oa]|están ubicad[oa]s|está situad[oa]|están situad[oa]s|
        está localizad[oa]|se ubican?|se situan?|se localizan?|quedan?) → dónde está
    ^dónde (se encontraban?|estaba ubicad[oa]|estaban ubicad[oa]s|estaba situad[oa]|estaban situad[oa]s|
        se ubicaban?|se situaban?|quedaban?) → dónde estaba
    ^cuál es (el lugar de nacimiento) de (.+)$ → dónde nació \2
    ^cuál es la fecha de nacimiento de (.+)$ → cuándo nació \1
    ^en qué fecha → cuándo
    ^en qué (?=(año|mes|siglo|decada)\b) → qué
    se (produjo|produjeron) → ocurrió
    se (construyó|construyeron) → fue construido
    (en )?el año (?=\d\d\d\d\b) → en
    como (mucho|maximo) → como maximo
    a lo sumo → como maximo
    ^quién(es)? {_SER} (el|la|los|las) (autor|autora|autores|escritor|escritora)s? de → quién escribió
    ^quién(es)? {_SER} (el|la|los|las) (inventor|inventora|inventores) de → quién inventó
    ^quién(es)? {_SER} (el|la|los|las) (fundador|fundadora|fundadores) de → quién fundó
    ^quién(es)? {_SER} (el|la|los|las) (descubridor|descubridora|descubridores) de → quién descubrió
    ^quién(es)? {_SER} (el|la|los|las) (creador|creadora|creadores) de → quién creó
    ^en qué se (diferencian?|distinguen?) (.+) (y|de|e) (.+)$ → diferencia entre \2 y \4
    ^(cuál(es)?|qué) (es|son|hay) (las? )?(diferencias?) entre → diferencia entre
    ^(qué|cuál) diferencias? (hay|existen?) entre → diferencia entre
    ^diferencias? entre → diferencia entre
    ^(cuál(es)?|qué) {_SER} {_ART} (?!(que|cual)\b)(\w+( \w+)?) que (?!{_SER}\b) → cuál \6
    ^cuál(es)? (es|son) (el|la|los|las) →
    cuáles → cuál
    ^cuál (es|fue|era) (un|una) → what \1 \2
    ^qué (?={_SER}\b|está\b|están\b|hay\b|se\b) → what
    ^qué (?!\w+(ó|aba|aban|aron|ieron|ió)\b) → cuál
    ^(en|de|a|con|por|para|desde|hasta|sobre|contra) qué → \1 cuál
    quiénes → quién
    ^(en|de|a|con|por|para|desde|hasta|sobre|contra) quiénes → \1 quién
    (tipo|tipos|clase|clases) de → tipo de
    el numero de → cuántos
    en (lugar|vez) de → en vez de
    (acerca de|respecto a|con respecto a|en relacion con|sobre) → sobre
    a causa de → debido a
    a traves de → mediante
    por medio de → mediante
    con el fin de → para
    ee uu → usa
    ee\.? ?uu\.? → usa
    eeuu → usa
    EE UU → usa
    estados unidos( de america)? → usa
    reino unido → uk
    union europea → ue
    naciones unidas → onu
    inteligencia artificial → ia
    sistemas? operativos? → so
    (exactamente|basicamente|concretamente) →
    & → y
    js → javascript
    k8s → kubernetes
    celsius → centigrados
    se (?=inici(a|an|ó|aron|aba)\b) →
    despues de → tras
    e → y
    u → o
    un poco → unpoco
"""

_VERBS = """
    terminar acabar finalizar
    usar utilizar emplear
    comprar adquirir
    arreglar reparar
    borrar eliminar
    suceder ocurrir
    lograr conseguir
    edificar construir
    derrotar vencer
    apoyar respaldar
    necesitar precisar
    responder contestar
    albergar alojar acoger
    iniciar
    seleccionar escoger
    denominar llamar
    fabricar manufacturar
    aumentar incrementar
    enviar mandar
    descargar bajar
    fallecer
"""
"""Lines of regular verbs, or of verbs whose irregular forms `_WORDS` has."""

_WORDS = """
    iniciar comenzar empezar
    inició comenzó empezó
    iniciaron comenzaron empezaron
    iniciaba comenzaba empezaba
    inicia comienza empieza
    inician comienzan empiezan
    finalizar concluir
    finalizó concluyó
    logra consigue
    logran consiguen
    logró consiguió obtuvo
    lograron consiguieron obtuvieron
    lograr obtener
    edifica construye
    edificó construyó
    edificaron construyeron
    seleccionar elegir
    seleccionó eligió
    necesitar requerir
    necesita requiere
    fallecer morir
    falleció murió
    fallecieron murieron
    comprar adquirir
    ordenador computadora computador
    coche carro automovil auto
    movil celular
    rapido veloz
    rapida veloz
    pelicula filme film
    idioma lengua
    ganador vencedor
    habitual usual
    salario sueldo
    precio coste
    medico doctor
    alumno estudiante
    maestro profesor
    bonito lindo hermoso bello
    bonita linda hermosa bella
    facil sencillo
    dificil complicado
    lugar sitio
    zona area
    ubicado situado localizado
    ubicada situada localizada
    mundial global
    inteligente listo
    rico adinerado
    pais nacion
    empresa compañia
    trabajo empleo
    foto fotografia
    television tele tv
    nevera frigorifico refrigerador
    bicicleta bici
    matematicas mates
    laboratorio lab
    repositorio repo
    documentacion docs
    error fallo
    regalo obsequio
    le les
    mediante usando
    kilometro km kilometros
    metro m metros
    centimetro cm centimetros
    milimetro mm milimetros
    litro l litros
    kilogramo kilo kg kilogramos kilos
    gramo g gramos
    miligramo mg miligramos
    hora horas
    minuto minutos
    en durante
"""

_PASSIVES = (
    "crear fundar establecer publicar inventar inaugurar estrenar lanzar firmar celebrar asociar utilizar "
    "usar introducir aprobar fabricar diseñar desarrollar reconocer construir traducir grabar"
)

_IRREGULAR_PAST = """
    tuvo=tener tuvieron=tener hizo=hacer hicieron=hacer dijo=decir dijeron=decir dio=dar dieron=dar vio=ver
    vieron=ver pudo=poder pudieron=poder puso=poner pusieron=poner quiso=querer quisieron=querer supo=saber
    supieron=saber vino=venir vinieron=venir trajo=traer trajeron=traer produjo=producir produjeron=producir
    condujo=conducir condujeron=conducir estuvo=estar estuvieron=estar hubo=haber anduvo=andar
    obtuvo=obtener obtuvieron=obtener mantuvo=mantener mantuvieron=mantener propuso=proponer
    tenia=tener tenian=tener hacia=hacía
"""

SPANISH = Language(
    marks=words(
        "qué cuál cuáles quién quiénes cómo cuándo dónde cuánto cuánta cuántos cuántas el los las un una "
        "unos unas del al y en por para con que se su sus es son fue era está están lo como cual mi mis "
        "ser hay sin más sobre entre desde hasta este esta eso puedo puede howto dime cuando donde quien"
    ),
    phrases=[*phrases(_PHRASES), *passives(_PASSIVES)],
    articles=frozenset({"el", "la", "los", "las", "un", "una"}),
    indefinite=frozenset({"un", "una"}),
    generic_plural=frozenset({"los", "las"}),
    helpers={
        **dict.fromkeys(("es", "son"), "ser"),
        **dict.fromkeys(("fue", "fueron", "era", "eran"), "fue"),
        **dict.fromkeys(("está", "están"), "estar"),
        **dict.fromkeys(("estaba", "estaban", "estuvo", "estuvieron"), "estuvo"),
    },
    modals=frozenset(),
    synonyms=conjugated(_VERBS) | groups(_WORDS),
    irregular=forms(_IRREGULAR_PAST, "past"),
    invariable=words(
        "mas menos jamas ademas antes despues entonces quizas tras dos tres seis mes pais dios gas es "
        "lunes martes miercoles jueves viernes crisis tesis analisis virus atras detras interes ingles "
        "frances aleman portugues japones chino marzo nos os les las los sus mis tus paris atenas andres "
        "carlos unidos unidas eras gracias gafas vacaciones matematicas"
    ),
    literal=words(
        "dice decir di traduce traducir traduccion traduzca pronuncia pronunciar escribe escribir "
        "deletrea deletrear reescribe corrige corregir conjuga conjugar parafrasea rima palabra frase "
        "letra"
    ),
    fronting=words("en durante con bajo usando mediante para"),
    free_verb_after=frozenset({"cuándo", "dónde", "cómo", "por qué"}),
    numbers=counted(
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince "
        "dieciseis diecisiete dieciocho diecinueve veinte veintiuno veintidos veintitres veinticuatro "
        "veinticinco veintiseis veintisiete veintiocho veintinueve"
    )
    | counted("treinta cuarenta cincuenta sesenta setenta ochenta noventa", start=30, step=10)
    | counted("doscientos trescientos cuatrocientos quinientos seiscientos", start=200, step=100),
    scales={"cien": 100, "ciento": 100, "mil": 1_000, "millon": 1_000_000, "millones": 1_000_000},
    ordinals={
        **counted("primero segundo tercero cuarto quinto sexto", start=1),
        **counted("primera segunda tercera cuarta quinta sexta", start=1),
        "primer": 1,
        "tercer": 3,
    },
    number_joint="y",
    thousands=".",
    moment=SPANISH_MOMENT,
    lookup=SPANISH_LOOKUP,
    personal=re.compile(
        r"\b(?:mi|mis|mio|mios|mia|mias|nuestr[oa]s?|(?:quien|como me|donde) (?:soy|llamo|estoy))\b"
    ),
)
