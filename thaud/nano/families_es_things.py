"""Fact families in Spanish about things, animals and bodies: data and wordings, nothing else.

Refuses facts whose right answer depends on region, taste or opinion: an exam question has one right answer.
"""

from typing import Final

from thaud.nano.facts import UNEXAMINED, Family, parse_facts

THINGS: Final = (
    Family(
        name="color_es",
        language="es",
        exam=(
            "¿De qué color es {s}?",
            "Dime el color que tiene {s}.",
            "{S}: ¿qué color?",
            "¿Con qué color se pinta {s}?",
        ),
        asked=(
            "¿Qué color tiene {s}?",
            "¿Cuál es el color de {s}?",
            "¿Recuerdas el color de {s}?",
            "Quiero saber de qué color se ve {s}.",
        ),
        told=(
            "{S} es de color {a}.",
            "El color de {s} es {a}.",
            "{A} es el color de {s}.",
            "{A}: ese color vemos en {s}.",
            "{A} es el color que tiene {s}.",
        ),
        facts=parse_facts(
            {
                0: "la nieve=blanco; la hierba=verde; la sangre=rojo; el carbón=negro; el plátano maduro=amarillo",
                1: "el tomate maduro=rojo; el pollito=amarillo; el cuervo=negro",
                3: "el cielo despejado=azul; el brócoli=verde; el oso polar=blanco; la esmeralda=verde; "
                "el rubí=rojo; el zafiro=azul; la ceniza=gris",
                UNEXAMINED: "el elefante=gris; la leche=blanco; la sal=blanco; la lechuga=verde; el mar=azul; "
                "el canario=amarillo; la cereza=rojo; la zanahoria=naranja; la rana=verde; la fresa madura=rojo; "
                "la yema=amarillo",
            }
        ),
    ),
    Family(
        name="dice_es",
        language="es",
        exam=("¿Qué sonido hace {s}?", "¿Cómo hace {s}?", "{S}: ¿qué dice?", "Imita a {s}."),
        asked=(
            "¿Qué dice {s} cuando habla?",
            "¿Qué ruido se oye junto a {s}?",
            "¿Qué nos dice {s}?",
            "Cuéntame qué ruido hace {s}.",
        ),
        told=(
            "{S} dice {a}.",
            "{A} dice {s}.",
            "{A}, eso dice {s}.",
            "Cuando habla, {s} dice {a}.",
            "{A} es el ruido de {s}.",
        ),
        facts=parse_facts(
            {
                0: "el perro=guau; el gato=miau; la vaca=muu; la oveja=bee; el pato=cuac; el gallo=quiquiriquí",
                UNEXAMINED: "el cerdo=oinc; la rana=croac; el pollito=pío",
            }
        ),
    ),
    Family(
        name="voz_es",
        language="es",
        exam=(
            "¿Qué hace {s} con la voz?",
            "¿Qué verbo nombra la voz de {s}?",
            "{S} no habla: ¿qué hace?",
            "Di con un verbo cómo suena {s}.",
        ),
        asked=(
            "¿Cómo suena la voz de {s}?",
            "¿Qué suele hacer {s} para llamar?",
            "¿Con qué verbo contamos el sonido de {s}?",
            "¿De qué manera llama {s}?",
        ),
        told=(
            "{S} {a}.",
            "Con su voz {s} {a}.",
            "{A}, así suena {s}.",
            "{A}: ese es el verbo de {s}.",
            "Sabemos que {s} {a}.",
        ),
        facts=parse_facts(
            {
                1: "el perro=ladra; el gato=maúlla; el león=ruge; el caballo=relincha",
                3: "el lobo=aúlla; la oveja=bala; el burro=rebuzna; la rana=croa; la gallina=cacarea; "
                "la abeja=zumba; el pollito=pía",
                UNEXAMINED: "la vaca=muge; el búho=ulula; el elefante=barrita; el pato=grazna",
            }
        ),
    ),
    Family(
        name="hogar_es",
        language="es",
        exam=(
            "¿Dónde vive {s}?",
            "¿Cuál es la casa de {s}?",
            "Dime el hogar de {s}.",
            "¿En qué lugar tiene su hogar {s}?",
        ),
        asked=(
            "¿Dónde está la casa de {s}?",
            "¿En qué sitio suele vivir {s}?",
            "¿Qué casa tiene {s}?",
            "Cuéntame dónde encuentro {s}.",
        ),
        told=(
            "{S} vive en {a}.",
            "{A} es la casa de {s}.",
            "{A}: allí vive {s}.",
            "En {a} vive {s}.",
            "La casa de {s} es {a}.",
        ),
        facts=parse_facts(
            {
                1: "la abeja=la colmena; el pájaro=el nido; el pez=el agua; la hormiga=el hormiguero",
                3: "el conejo=la madriguera; el caballo=el establo; el camello=el desierto; la ballena=el mar; "
                "el murciélago=la cueva; el rey=el castillo; la araña=la telaraña",
                UNEXAMINED: "la gallina=el gallinero; el cerdo=la pocilga; el oso=la cueva; el monje=el monasterio",
            }
        ),
    ),
    Family(
        name="uso_es",
        language="es",
        exam=(
            "¿Para qué sirve {s}?",
            "¿Qué se hace con {s}?",
            "Dime el uso de {s}.",
            "Completa: {s} es para",
        ),
        asked=(
            "¿Qué hacemos con {s}?",
            "¿Qué utilidad tiene {s}?",
            "¿Para hacer qué usamos {s}?",
            "Cuéntame para qué es útil {s}.",
        ),
        told=(
            "{S} sirve para {a}.",
            "{A} es lo que hacemos con {s}.",
            "Para {a} usamos {s}.",
            "{A}: para eso usamos {s}.",
            "Usamos {s} para {a}.",
        ),
        facts=parse_facts(
            {
                0: "la cama=dormir; el lápiz=escribir; la tijera=cortar",
                1: "la silla=sentarse; el jabón=lavar; el libro=leer",
                3: "el martillo=clavar; la balanza=pesar; la pala=cavar; el pincel=pintar; la goma=borrar; "
                "la regla=medir; la toalla=secar; la lámpara=iluminar; la calculadora=calcular",
                UNEXAMINED: "la aguja=coser; la escoba=barrer; el vaso=beber; el peine=peinar; el barco=navegar; "
                "la pelota=jugar; el horno=hornear; la cámara=fotografiar; el cuchillo=cortar; la llave=abrir",
            }
        ),
    ),
    Family(
        name="cuerpo_es",
        language="es",
        exam=(
            "¿Con qué parte del cuerpo se puede {s}?",
            "¿Qué parte del cuerpo sirve para {s}?",
            "Para {s}, ¿qué parte del cuerpo necesito?",
            "Nombra la parte del cuerpo hecha para {s}.",
        ),
        asked=(
            "¿Qué usamos para {s}?",
            "¿Con qué podemos {s}?",
            "¿Qué del cuerpo nos ayuda a {s}?",
            "Dime con qué solemos {s}.",
        ),
        told=(
            "Usamos {a} para {s}.",
            "{A}: con eso podemos {s}.",
            "Para {s} usamos {a}.",
            "Con {a} podemos {s}.",
            "{A}, la parte del cuerpo que usamos para {s}.",
        ),
        facts=parse_facts(
            {
                0: "ver=los ojos; oler=la nariz",
                1: "masticar=los dientes; oír=los oídos; pensar=el cerebro",
                3: "respirar=los pulmones; abrazar=los brazos; bombear la sangre=el corazón; "
                "digerir la comida=el estómago; saborear=la lengua",
                UNEXAMINED: "aplaudir=las manos; besar=los labios; caminar=los pies",
            }
        ),
    ),
    Family(
        name="ropa_es",
        language="es",
        exam=(
            "¿En qué parte del cuerpo se lleva {s}?",
            "¿Dónde se pone {s}?",
            "Completa: {s} va en",
            "¿Qué parte del cuerpo viste {s}?",
        ),
        asked=(
            "¿Dónde llevamos {s}?",
            "¿En qué sitio del cuerpo nos ponemos {s}?",
            "¿Qué lugar del cuerpo toca {s}?",
            "Dime dónde suele ir {s}.",
        ),
        told=(
            "{S} se lleva en {a}.",
            "{A} es el sitio de {s}.",
            "En {a} llevamos {s}.",
            "{A}: ahí llevamos {s}.",
            "Nos ponemos {s} en {a}.",
        ),
        facts=parse_facts(
            {
                0: "el sombrero=la cabeza",
                1: "el zapato=el pie; el guante=la mano",
                3: "la bufanda=el cuello; el calcetín=el pie; el cinturón=la cintura; el pendiente=la oreja",
                UNEXAMINED: "el anillo=el dedo; el collar=el cuello; el casco=la cabeza; la pulsera=la muñeca",
            }
        ),
    ),
    Family(
        name="clase_es",
        language="es",
        exam=(
            "¿Qué clase de cosa es {s}?",
            "¿A qué grupo pertenece {s}?",
            "Clasifica {s}.",
            "¿En qué grupo pondrías {s}?",
        ),
        asked=(
            "¿Qué es {s}?",
            "¿De qué clase es {s}?",
            "¿Con qué grupo va {s}?",
            "¿Cómo clasificamos {s}?",
        ),
        told=(
            "{S} es una clase de {a}.",
            "{A} es el grupo de {s}.",
            "{A}: en ese grupo va {s}.",
            "Decimos que {s} es {a}.",
            "El grupo de {s} es {a}.",
        ),
        facts=parse_facts(
            {
                1: "la manzana=fruta; la rosa=flor; la silla=mueble; el martillo=herramienta; la camisa=ropa",
                3: "la pera=fruta; la margarita=flor; la mesa=mueble; el destornillador=herramienta; "
                "el pantalón=ropa; la guitarra=instrumento; el tenis=deporte; el camión=vehículo; el fútbol=deporte; "
                "el coche=vehículo; el armario=mueble",
                UNEXAMINED: "el piano=instrumento; la uva=fruta; el sofá=mueble; la falda=ropa; "
                "el tambor=instrumento; el baloncesto=deporte; la moto=vehículo; el clavel=flor; "
                "el violín=instrumento; la sierra=herramienta",
            }
        ),
    ),
    Family(
        name="cria_es",
        language="es",
        exam=(
            "¿Cómo se llama la cría de {s}?",
            "¿Qué nombre recibe la cría que tiene {s}?",
            "El bebé de {s}, ¿cómo se llama?",
            "Nombra a la cría de {s}.",
        ),
        asked=(
            "¿Quién es la cría de {s}?",
            "¿Cómo llamamos a la cría pequeña de {s}?",
            "¿Qué animal nace de {s}?",
            "¿Qué cría tiene {s}?",
        ),
        told=(
            "La cría de {s} es {a}.",
            "{A} es la cría de {s}.",
            "{A}: así llamamos a la cría de {s}.",
            "La cría pequeña de {s} es {a}.",
        ),
        facts=parse_facts(
            {
                1: "la vaca=el ternero; la gallina=el pollito; la oveja=el cordero",
                3: "la yegua=el potro; el perro=el cachorro; el cerdo=el lechón; la rana=el renacuajo; "
                "el oso=el osezno; el lobo=el lobezno; la cabra=el cabrito",
                UNEXAMINED: "la gata=el gatito; la pata=el patito; la cierva=el cervatillo",
            }
        ),
    ),
    Family(
        name="origen_es",
        language="es",
        exam=(
            "¿De dónde sale {s}?",
            "¿De qué se obtiene {s}?",
            "Dime el origen de {s}.",
            "{S}: ¿de qué o de quién viene?",
        ),
        asked=(
            "¿Qué nos da {s}?",
            "¿Qué o quién produce {s}?",
            "¿De qué viene {s}?",
            "¿Gracias a qué tenemos {s}?",
        ),
        told=(
            "{S} viene de {a}.",
            "{A} nos da {s}.",
            "{A} es el origen de {s}.",
            "Sacamos {s} de {a}.",
            "{A}: de ahí sacamos {s}.",
        ),
        facts=parse_facts(
            {
                1: "la leche=la vaca; el huevo=la gallina; la miel=la abeja; la lana=la oveja",
                3: "el queso=la leche; el vino=la uva; el pan=la harina; la harina=el trigo; el chocolate=el cacao; "
                "el aceite de oliva=la aceituna; el vidrio=la arena; la seda=el gusano; el jamón=el cerdo",
                UNEXAMINED: "la pasa=la uva; la sidra=la manzana",
            }
        ),
    ),
)
