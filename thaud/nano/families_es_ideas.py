"""Fact families in Spanish about number, order, place, cause and words: data and wordings, nothing else.

Refuses facts whose right answer depends on region, taste or opinion: an exam question has one right answer.
"""

from typing import Final

from thaud.nano.facts import UNEXAMINED, Family, parse_facts

_YES_NO_EXAM: Final = (
    "¿De verdad {t} {s}?",
    "Responde sí o no: ¿{t} {s}?",
    "¿Crees que {s} {t}, sí o no?",
    "Sí o no: {s} {t}.",
)
_YES_NO_ASKED: Final = (
    "¿Es verdad que {s} {t}?",
    "¿Es cierto o falso que {s} {t}?",
    "¿Te parece que {s} {t}?",
    "Dime si {s} {t}.",
)

IDEAS: Final = (
    Family(
        name="si_es",
        language="es",
        exam=_YES_NO_EXAM,
        asked=_YES_NO_ASKED,
        told=("Sí, {s} {t}.", "Sí, es cierto: {s} {t}.", "Es verdad que {s} {t}."),
        facts=parse_facts(
            {
                0: "el pájaro|vuela=sí; el fuego|quema=sí; el pez|nada=sí",
                UNEXAMINED: "el hielo|enfría=sí; el bebé|llora=sí; el sol|brilla=sí; el avión|vuela=sí; "
                "la ballena|nada=sí; la abeja|vuela=sí; el perro|ladra=sí; la niña|habla=sí; el niño|camina=sí",
            }
        ),
    ),
    Family(
        name="no_es",
        language="es",
        exam=_YES_NO_EXAM,
        asked=_YES_NO_ASKED,
        told=("No, {s} no {t}.", "No, es falso: {s} no {t}.", "Es mentira: {s} no {t}."),
        facts=parse_facts(
            {
                0: "el perro|vuela=no; el hielo|quema=no; la silla|camina=no",
                UNEXAMINED: "la piedra|habla=no; el pez|ladra=no; la mesa|vuela=no; la piedra|nada=no; "
                "la nieve|quema=no; el árbol|camina=no; el gato|vuela=no; el zapato|habla=no; el lápiz|llora=no",
            }
        ),
    ),
    Family(
        name="nombre_es",
        language="es",
        exam=("¿Cómo te llamas?", "¿Quién eres?", "Dime tu nombre.", "¿Qué nombre tienes?"),
        asked=("¿Cuál es tu nombre?", "¿Cómo te llaman?", "¿Con quién hablo?"),
        told=("Me llamo {a}.", "{A} es mi nombre.", "{A}, así me llamo.", "Soy {a}."),
        facts=parse_facts({0: "tu nombre=THAU"}),
        weight=2.0,
    ),
    Family(
        name="cuantos_es",
        language="es",
        exam=(
            "¿{U} {t} tiene {s}?",
            "Dime qué cantidad de {t} tiene {s}.",
            "{S}: ¿{u} {t}?",
            "Cuenta {t}: ¿{u} hay en {s}?",
        ),
        asked=(
            "¿Qué número de {t} posee {s}?",
            "Quiero contar: ¿{u} {t} vemos en {s}?",
            "¿Cuál es el número de {t} en {s}?",
            "Cuéntame {u} {t} lleva {s}.",
        ),
        told=(
            "{S} tiene {a} {t}.",
            "{A} {t} tiene {s}.",
            "{A} es el número de {t} en {s}.",
            "En {s} hay {a} {t}.",
        ),
        facts=parse_facts(
            {
                0: "el perro|patas|cuántas=cuatro; la mano|dedos|cuántos=cinco",
                1: "la semana|días|cuántos=siete; la araña|patas|cuántas=ocho; el triángulo|lados|cuántos=tres",
                3: "el año|meses|cuántos=doce; el cuadrado|lados|cuántos=cuatro; la hora|minutos|cuántos=sesenta; "
                "el día|horas|cuántas=veinticuatro; el triciclo|ruedas|cuántas=tres; el pulpo|brazos|cuántos=ocho; "
                "el pentágono|lados|cuántos=cinco; el hexágono|lados|cuántos=seis; "
                "el arcoíris|colores|cuántos=siete; la hormiga|patas|cuántas=seis",
                UNEXAMINED: "la bicicleta|ruedas|cuántas=dos; el minuto|segundos|cuántos=sesenta; "
                "la moto|ruedas|cuántas=dos; el coche|ruedas|cuántas=cuatro; la gallina|patas|cuántas=dos; "
                "el pájaro|alas|cuántas=dos; la abeja|patas|cuántas=seis",
            }
        ),
    ),
    Family(
        name="sigue_es",
        language="es",
        exam=(
            "¿Qué viene después de {s}?",
            "¿Qué va justo detrás de {s}?",
            "Tras {s}, ¿qué llega?",
            "Di lo que sigue a {s}.",
        ),
        asked=(
            "¿Qué sigue a {s}?",
            "¿Qué llega cuando termina {s}?",
            "¿Cuál es el siguiente de {s}?",
            "Después de {s}, ¿qué toca?",
        ),
        told=(
            "Después de {s} viene {a}.",
            "{A} viene después de {s}.",
            "{A} sigue a {s}.",
            "{A}: eso llega cuando termina {s}.",
        ),
        facts=parse_facts(
            {
                1: "el lunes=el martes; el martes=el miércoles; enero=febrero",
                3: "el viernes=el sábado; el sábado=el domingo; el domingo=el lunes; el miércoles=el jueves; "
                "febrero=marzo; marzo=abril; mayo=junio; julio=agosto; noviembre=diciembre; la primavera=el verano; "
                "el verano=el otoño",
                UNEXAMINED: "el jueves=el viernes; abril=mayo; junio=julio; agosto=septiembre; septiembre=octubre; "
                "octubre=noviembre; diciembre=enero; el otoño=el invierno; el invierno=la primavera",
            }
        ),
    ),
    Family(
        name="contrario_es",
        language="es",
        exam=(
            "¿Cuál es el contrario de «{s}»?",
            "Antónimo de {s}:",
            "Al revés de {s}, ¿qué palabra va?",
            "Dime una palabra opuesta a {s}.",
        ),
        asked=(
            "¿Qué es lo contrario de {s}?",
            "¿Qué palabra es la opuesta de {s}?",
            "¿Qué se opone a {s}?",
            "Quiero la palabra contraria de {s}.",
            "¿Qué palabra se opone a «{s}»?",
        ),
        told=(
            "Lo contrario de {s} es {a}.",
            "{A} es lo contrario de {s}.",
            "{A} y {s} son opuestos.",
            "{A}: esa es la palabra opuesta de {s}.",
        ),
        facts=parse_facts(
            {
                0: "grande=pequeño; arriba=abajo; día=noche",
                1: "alto=bajo; abierto=cerrado; lleno=vacío; limpio=sucio",
                3: "feliz=triste; fuerte=débil; duro=blando; largo=corto; fácil=difícil; rico=pobre; "
                "encender=apagar; subir=bajar; entrar=salir; comprar=vender; ganar=perder; cerca=lejos; "
                "siempre=nunca; mojado=seco",
                UNEXAMINED: "rápido=lento; pequeño=grande; abajo=arriba; noche=día; lento=rápido; dentro=fuera; "
                "todo=nada; reír=llorar; primero=último; caliente=frío",
            }
        ),
    ),
    Family(
        name="capital_es",
        language="es",
        exam=(
            "¿Cuál es la capital de {s}?",
            "¿Qué ciudad es capital de {s}?",
            "{S}: ¿qué capital?",
            "Nombra la capital de {s}.",
        ),
        asked=(
            "¿Cómo se llama la capital de {s}?",
            "¿En qué ciudad está el gobierno de {s}?",
            "¿Qué capital tiene {s}?",
            "Si viajo a {s}, ¿cuál será su capital?",
            "{S}, ¿qué ciudad tiene por capital?",
        ),
        told=(
            "La capital de {s} es {a}.",
            "{A} es la capital de {s}.",
            "{S} tiene por capital {a}.",
            "{A}, así se llama la capital de {s}.",
        ),
        facts=parse_facts(
            {
                3: "España=Madrid; Francia=París; Italia=Roma; Portugal=Lisboa; Alemania=Berlín; Japón=Tokio; "
                "Perú=Lima; Cuba=La Habana; Colombia=Bogotá; Grecia=Atenas; Rusia=Moscú; Argentina=Buenos Aires; "
                "Ecuador=Quito",
                UNEXAMINED: "Chile=Santiago; Uruguay=Montevideo; Venezuela=Caracas; Austria=Viena; Polonia=Varsovia",
            }
        ),
    ),
    Family(
        name="causa_es",
        language="es",
        exam=(
            "¿Qué pasa si {s}?",
            "Si {s}, ¿qué ocurre?",
            "¿Qué sucede cuando {s}?",
            "Di la consecuencia: {s}.",
        ),
        asked=(
            "¿Qué ocurre si {s}?",
            "¿Qué efecto hay cuando {s}?",
            "¿Qué resulta si {s}?",
            "Supón esto: {s}. ¿Y luego?",
        ),
        told=(
            "Si {s}, {a}.",
            "{A} si {s}.",
            "Cuando {s}, {a}.",
            "{A}: eso pasa cuando {s}.",
        ),
        facts=parse_facts(
            {
                3: "pones hielo al sol=se derrite; soplas una vela encendida=se apaga; "
                "dejas caer un vaso de vidrio=se rompe; metes agua en el congelador=se congela; "
                "calientas mucho el agua=hierve; tocas el fuego=te quemas; pinchas un globo=explota; "
                "llueve sobre la calle=se moja; corres mucho rato=te cansas; pasas el día sin beber=tienes sed; "
                "pasas el día sin comer=tienes hambre; plantas una semilla=crece una planta; "
                "sueltas una piedra=cae al suelo; tiendes la ropa mojada al sol=se seca; "
                "echas azúcar al agua=se disuelve; te cortas el dedo=sale sangre",
                UNEXAMINED: "te acuestas muy tarde=tienes sueño; oyes un chiste bueno=te ríes",
            }
        ),
    ),
    Family(
        name="mezcla_es",
        language="es",
        exam=(
            "¿Qué color sale al mezclar {s} y {t}?",
            "{S} con {t}, ¿qué color da?",
            "Mezclo {s} y {t}: ¿qué color obtengo?",
            "Dime el color de {s} más {t}.",
        ),
        asked=(
            "¿Qué color resulta de juntar {s} y {t}?",
            "Si junto {s} con {t}, ¿qué color veo?",
            "¿Qué color dan {s} y {t}?",
        ),
        told=(
            "{S} y {t} dan {a}.",
            "{A} es la mezcla de {s} y {t}.",
            "{A} sale de juntar {s} con {t}.",
            "Si juntamos {s} y {t}, vemos {a}.",
        ),
        facts=parse_facts(
            {
                3: "azul|amarillo=verde; rojo|amarillo=naranja; azul|rojo=morado; blanco|negro=gris",
                UNEXAMINED: "rojo|blanco=rosa",
            }
        ),
    ),
)
