"""Words whose capitals say nothing, and words whose capitals say much."""

from inference.cache.word_lists.shape import words

ANY_CASE = words(
    # Acronyms that are no other word and no unit in small letters.
    "nasa dna rna html css json xml yaml sql api apis url urls uri http https ftp ssh tls ssl tcp udp dns "
    "pdf csv jpg jpeg png svg cpu cpus gpu gpus usb ssd hdd ide sdk cli gui ui ux php jvm orm iot llm "
    "llms nlp gpt ai faq diy tv nato otan onu unesco unicef opec ue uk usa eu gdp pib ceo cfo cto iva dvd "
    "gps nfc qr wifi lgbt nba nfl fifa uefa eeuu ee.uu hiv vih adn arn ia "
    # Spelt with capitals inside, or at the beginning.
    "javascript typescript github gitlab youtube iphone ipad macos ipados postgresql postgres mysql "
    "sqlite mongodb graphql numpy pytorch tensorflow openai chatgpt whatsapp linkedin paypal powershell "
    "vscode wordpress c++ c# node.js vue.js next.js nodejs ipv4 ipv6 mp3 mp4 h2o covid-19 covid kotlin linux "
    "unix ubuntu debian java js git redis nginx "
    # Names of five letters or fewer. Longer ones are of any case anyway.
    "kenya spain italy japan egypt india iran iraq syria libya yemen qatar nepal ghana gabon benin niger "
    "haiti fiji cuba peru korea texas maine idaho iowa utah ohio asia paris roma rome milan tokyo seoul "
    "delhi dubai cairo oslo berne lyon miami boise kenia japon corea irak siria libia nepal suiza suecia "
    "egipto españa rusia york new war world cup north south east west lake mount nobel oscar óscar "
    "quijote louvre monday friday april june july"
)
"""In whatever case these are written, they are the same. Not one of them may be a unit or a symbol."""
CASE_MATTERS = words(
    "apple turkey china polish march may target shell visa jordan chad mark bill mercury orange true "
    "false none null windows access amazon oracle pandas safari chrome outlook exchange notion discord "
    "signal telegram stripe genesis exodus cancer gemini phoenix buffalo galaxy titanic crystal scheme "
    "elixir catholic democrat democrats democratic republican republicans liberal liberals conservative "
    "conservatives labour congress reading frankfurter danish string integer boolean double object symbol "
    "array promise cologne orthodox pacific"
)
"""Words of any length, also at the beginning of a sentence, that are another one with a capital: a turkey."""
SMALL = words(
    "a i is am are was were be do did does has have had of to for from with by in on at as an the and or "
    "if so it he she we you they me my us our his her its no not but what when where which who whom whose "
    "why how can could should would will may might must shall will go hi ok oh up than then that this "
    "there y o e u el la lo los las le les se si no un una unos unas en de del al ya mi tu te su yo es va "
    "ha he hay con sin por para que qué cual cuál cómo como son fue era ser está más"
)
"""Words of up to five letters that may begin a sentence, or stand in a title, with a capital."""
SMALL_ANYWHERE = words(
    "is the of to do if by an or we my and for with from are was were does did how what why when where "
    "which el los las un una de del en por para que con son qué cuál cómo cuándo dónde"
)
"""Those of them that are nothing else with a capital in the middle either (He, As, La and Es: elements)."""
BEFORE_A_SYMBOL = words(
    "of in by for to with the is are letter letters variable value element symbol vitamin type class "
    "constant current number index called named and or between plus minus times over matrix identity unit "
    "units"
)
"""After these, I is no pronoun."""
