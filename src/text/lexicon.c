/*
 * Word lists for names, companies, addresses and mail, and the lookup in them.
 *
 * The lists were written for this project from general knowledge (the
 * administrative divisions of China to prefecture level, GB/T 2260 names;
 * usual legal forms; usual short forms of given names). They hold words that are
 * common anywhere and are not meant to be complete: an unknown word costs a little
 * precision, never an error.
 *
 * Memory: one static hash table, filled at the first lookup of a process and never
 * freed. No locks: a PostgreSQL backend has one thread.
 */
#include <string.h>

#include "text/lexicon.h"
#include "text/text.h"
#include "text/unitab.h"

/*
 * One list. Words are separated by blanks, groups by '|'. With numbered, the value
 * of a word is the number of its group, from 1; else it is its place in the list.
 */
typedef struct LexList
{
	CrmLexKind kind;
	int numbered;
	const char *words;
} LexList;

/* clang-format off */

/* A province and its prefectures; the group's number binds them. */
static const char provinces[] =
"北京|天津|河北|山西|内蒙古|辽宁|吉林|黑龙江|上海|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|广西|海南|重庆|四川|贵州|云南|西藏|"
"陕西|甘肃|青海|宁夏|新疆|台湾|香港|澳门";
static const char cities[] =
"北京|天津|"
"石家庄 唐山 秦皇岛 邯郸 邢台 保定 张家口 承德 沧州 廊坊 衡水 雄安|"
"太原 大同 阳泉 长治 晋城 朔州 晋中 运城 忻州 临汾 吕梁|"
"呼和浩特 包头 乌海 赤峰 通辽 鄂尔多斯 呼伦贝尔 巴彦淖尔 乌兰察布 兴安盟 锡林郭勒 阿拉善|"
"沈阳 大连 鞍山 抚顺 本溪 丹东 锦州 营口 阜新 辽阳 盘锦 铁岭 朝阳 葫芦岛|"
"长春 吉林 四平 辽源 通化 白山 松原 白城 延边|"
"哈尔滨 齐齐哈尔 鸡西 鹤岗 双鸭山 大庆 伊春 佳木斯 七台河 牡丹江 黑河 绥化 大兴安岭|"
"上海|"
"南京 无锡 徐州 常州 苏州 南通 连云港 淮安 盐城 扬州 镇江 泰州 宿迁|"
"杭州 宁波 温州 嘉兴 湖州 绍兴 金华 衢州 舟山 台州 丽水|"
"合肥 芜湖 蚌埠 淮南 马鞍山 淮北 铜陵 安庆 黄山 滁州 阜阳 宿州 六安 亳州 池州 宣城|"
"福州 厦门 莆田 三明 泉州 漳州 南平 龙岩 宁德|"
"南昌 景德镇 萍乡 九江 新余 鹰潭 赣州 吉安 宜春 抚州 上饶|"
"济南 青岛 淄博 枣庄 东营 烟台 潍坊 济宁 泰安 威海 日照 临沂 德州 聊城 滨州 菏泽 莱芜|"
"郑州 开封 洛阳 平顶山 安阳 鹤壁 新乡 焦作 濮阳 许昌 漯河 三门峡 南阳 商丘 信阳 周口 驻马店 济源|"
"武汉 黄石 十堰 宜昌 襄阳 鄂州 荆门 孝感 荆州 黄冈 咸宁 随州 恩施 仙桃 潜江 天门 神农架|"
"长沙 株洲 湘潭 衡阳 邵阳 岳阳 常德 张家界 益阳 郴州 永州 怀化 娄底 湘西|"
"广州 韶关 深圳 珠海 汕头 佛山 江门 湛江 茂名 肇庆 惠州 梅州 汕尾 河源 阳江 清远 东莞 中山 潮州 揭阳 云浮|"
"南宁 柳州 桂林 梧州 北海 防城港 钦州 贵港 玉林 百色 贺州 河池 来宾 崇左|"
"海口 三亚 三沙 儋州 琼海 文昌 万宁 东方 五指山|"
"重庆|"
"成都 自贡 攀枝花 泸州 德阳 绵阳 广元 遂宁 内江 乐山 南充 眉山 宜宾 广安 达州 雅安 巴中 资阳 阿坝 甘孜 凉山|"
"贵阳 六盘水 遵义 安顺 毕节 铜仁 黔西南 黔东南 黔南|"
"昆明 曲靖 玉溪 保山 昭通 丽江 普洱 临沧 楚雄 红河 文山 西双版纳 大理 德宏 怒江 迪庆|"
"拉萨 日喀则 昌都 林芝 山南 那曲 阿里|"
"西安 铜川 宝鸡 咸阳 渭南 延安 汉中 榆林 安康 商洛|"
"兰州 嘉峪关 金昌 白银 天水 武威 张掖 平凉 酒泉 庆阳 定西 陇南 临夏 甘南|"
"西宁 海东 海北 黄南 海南 果洛 玉树 海西|"
"银川 石嘴山 吴忠 固原 中卫|"
"乌鲁木齐 克拉玛依 吐鲁番 哈密 昌吉 博尔塔拉 巴音郭楞 阿克苏 克孜勒苏 喀什 和田 伊犁 塔城 阿勒泰 石河子 阿拉尔 图木舒克 五家渠|"
"台北 高雄 台中 台南 新竹 基隆 嘉义 桃园 新北|香港 九龙|澳门";

/* Legal forms by class: company, by shares, group, partnership, sole, works, other. */
static const char forms[] =
"有限责任公司 有限公司 公司 总公司 有限责任 责任有限公司|股份有限公司 股份公司 控股股份有限公司|集团有限公司 集团股份有限公司 集团有限责任公司 集团公司 控股集团有限公司 "
"控股有限公司 集团 控股集团 控股集团公司|合伙企业 有限合伙 普通合伙 合伙企业(有限合伙) 合伙企业(普通合伙) 合伙企业(特殊普通合伙)|经营部 商行 商店 个体工商户 工作室 门市部 服务部 销售部 中心 "
"商贸行 五金店 专卖店 超市|厂 总厂 工厂 制造厂 加工厂 公司厂|事务所 律师事务所 会计师事务所 合作社 专业合作社 农民专业合作社 研究院 研究所 研究中心 设计院 医院 学校 幼儿园 大学 学院 协会 基金会 委员会 "
"管理处 服务中心";

static const char trades[] =
"科技 网络科技 信息科技 电子科技 生物科技 智能科技 环保科技 新能源科技 医疗科技 农业科技 文化科技 软件科技 材料科技 数据科技 信息技术 网络技术 技术 技术服务 技术开发 软件 软件开发 "
"信息 网络 电子 电子商务 电子技术 电商 通信 通讯 通信技术 半导体 集成电路 光电 光电科技 物联网 互联网 人工智能 机器人 智能 智能制造 智能设备 智能装备 数码 数字科技 大数据 云计算 传媒 文化传媒 广告传媒 "
"影视传媒 广告 文化 文化传播 文化发展 文化艺术 影视 影业 娱乐 游戏 动漫 会展 会展服务 展览 展览展示 礼仪 策划 设计 装饰设计 工业设计 贸易 国际贸易 进出口 进出口贸易 商贸 工贸 实业 实业发展 投资 投资管理 "
"投资发展 投资咨询 股权投资 创业投资 资产管理 资本 资本管理 基金管理 金融 金融服务 融资租赁 租赁 担保 融资担保 小额贷款 典当 保险 保险代理 保险经纪 证券 期货 银行 信托 支付 金融信息服务 管理 企业管理 企业管理咨询 "
"企业服务 商务 商务服务 商务咨询 咨询 管理咨询 咨询服务 信息咨询 咨询管理 人力资源 人力资源服务 劳务 劳务派遣 教育 教育科技 教育咨询 教育培训 培训 职业培训 知识产权 知识产权代理 法律咨询 财务咨询 财务管理 代理 代理记账 税务师 "
"物流 国际物流 物流运输 供应链 供应链管理 供应链科技 运输 货运 货运代理 国际货运代理 仓储 仓储服务 快递 速递 配送 航空 航运 船舶 海运 汽车 汽车销售 汽车服务 汽车贸易 汽车零部件 汽车配件 汽车租赁 汽车维修 新能源汽车 "
"医药 医药科技 生物医药 制药 药业 药业集团 大药房 医疗 医疗器械 医疗设备 医疗用品 健康 健康管理 健康科技 养老服务 养生 保健品 生物 生物技术 生物工程 化妆品 美容 美容美发 美业 服饰 服装 制衣 纺织 纺织品 针织 鞋业 皮具 "
"箱包 家纺 布艺 首饰 珠宝 珠宝首饰 工艺品 礼品 玩具 文具 办公用品 办公设备 家具 家居 家居用品 家电 电器 电器销售 日用品 百货 零售 商业 商业管理 商场 商城 超市 连锁 便利店 食品 食品科技 食品加工 餐饮 餐饮管理 餐饮服务 饮料 饮品 "
"酒业 酒店 酒店管理 茶业 茶叶 粮油 乳业 肉类 水产 水产品 海产品 农业 农业发展 农业开发 农产品 农资 农牧 牧业 养殖 种植 种业 园林 园林绿化 林业 生态 生态农业 生态科技 环保 环保工程 环境 环境工程 环境科技 节能 节能科技 水务 水处理 净化 "
"能源 新能源 光伏 太阳能 电力 电力工程 电力设备 电气 电气设备 电缆 电线电缆 石油 石油化工 石化 天然气 燃气 燃料 煤炭 煤业 矿业 矿产 化工 化工产品 精细化工 化学 化肥 农药 塑料 塑料制品 塑胶 塑胶制品 橡胶 橡胶制品 玻璃 玻璃制品 陶瓷 "
"包装 包装材料 包装制品 纸业 纸制品 印刷 印务 印刷包装 出版 图书 新材料 材料 材料科技 建材 建筑材料 装饰材料 金属 金属制品 金属材料 钢铁 钢结构 有色金属 铝业 铜业 不锈钢 五金 五金制品 五金机电 模具 精密模具 机械 机械设备 机械制造 "
"精密机械 机电 机电设备 机床 设备 自动化 自动化设备 自动化科技 仪器 仪器仪表 仪表 阀门 泵业 轴承 电机 电子元件 电子元器件 制冷设备 消防 消防器材 消防工程 安防 安防科技 安全技术 照明 灯饰 电池 建筑 建筑工程 建筑装饰 建筑安装 建筑劳务 建设 "
"建设工程 建设集团 工程 工程建设 工程咨询 工程监理 工程管理 市政工程 装饰 装饰工程 装修 装修工程 装潢 门窗 幕墙 防水 安装 安装工程 路桥 房地产 房地产开发 房产 房地产经纪 置业 地产 物业 物业管理 物业服务 城市建设 开发 发展 开发建设 "
"旅游 旅行社 国际旅行社 旅游开发 度假村 体育 体育文化 体育发展 健身 俱乐部 宠物 宠物用品 婚庆 摄影 家政 家政服务 保洁 清洁 保安 保安服务 安保 服务 制造 制品 加工 印染 产业 产业发展 产业园 集团 销售 经贸 商务科技 科技发展 科技服务 科技集团";

static const char branches[] =
"分公司 分部 分店 门店 支行 分行 办事处 营业部 分厂 分校 分院 分所 分中心 联络处 代表处 营业厅 子公司 旗舰店 直营店 加盟店 项目部 营业所 支公司 事业部 工程部 店";

/* Surnames of two characters; the others have one. */
static const char surnames[] =
"欧阳 太史 端木 上官 司马 东方 独孤 南宫 万俟 闻人 夏侯 诸葛 尉迟 公羊 赫连 澹台 皇甫 宗政 濮阳 公冶 太叔 申屠 公孙 慕容 仲孙 钟离 长孙 宇文 司徒 鲜于 司空 闾丘 子车 亓官 司寇 巫马 公西 颛孙 壤驷 公良 漆雕 乐正 "
"宰父 谷梁 拓跋 夹谷 轩辕 令狐 段干 百里 呼延 东郭 南门 羊舌 微生 公户 公玉 公仪 梁丘 公仲 公上 公门 公山 公坚 左丘 公伯 西门 公祖 第五 公乘 贯丘 公皙 南荣 东里 东宫 仲长 子书 子桑 即墨 达奚 褚师 纳兰 完颜 叶赫";

/* Surnames whose reading differs from the character's usual one. */
static const char readings[] =
"单 shan|解 xie|曾 zeng|仇 qiu|查 zha|盖 ge|区 ou|朴 piao|尉迟 yu|万俟 mo|任 ren|华 hua|纪 ji|宁 ning|乐 yue|缪 miao|员 yun|折 she|翟 zhai|洗 xian|冼 xian|瞿 qu|葛 ge|那 na|能 nai|秘 bi|繁 po|黑 he|"
"召 shao|尹 yin|柏 bai|隗 wei|佴 nai|种 chong|相 xiang|车 che|覃 qin|乜 nie|殷 yin|燕 yan|牟 mu|重 chong|长孙 zhang|澹台 tan";

/* Latin legal forms by class. */
static const char legal[] =
"inc incorporated corp corporation|co company cos|ltd limited pte pvt pty proprietary|llc lc pllc|llp lp lllp|plc|gmbh mbh ggmbh ug|ag|kg kgaa ohg gbr ek ev|sa sas sarl sasu scs snc eurl|"
"spa srl sapa|bv nv vof cv|ab|oy oyj|as asa aps|sl slu sc sca cv sab|kk yk godo|sdn bhd|jsc ojsc pjsc ooo oao zao pao ao|kft zrt nyrt rt|sro doo dd ad eood ood|ltda eireli|sp zoo spzoo|trust foundation assoc";

/* Latin short forms in company names and addresses; the first of a group is written out. */
static const char abbrevs[] =
"street st str|avenue ave av|road rd|boulevard blvd bvd|drive dr drv|lane ln|court ct crt|place pl|square sq|terrace tce ter terr|highway hwy|parkway pkwy pky|crescent cres cr crst|circuit cct circ|close cl|"
"grove gr grv|north n|south s|east e|west w|northeast ne|northwest nw|southeast se|southwest sw|apartment apt|suite ste|floor fl flr|building bldg|room rm|number no nr|unit un|mount mt|fort ft|"
"center centre ctr cntr cent|services service svc svcs serv|international intl int|association assn assoc asn|department dept|university univ|institute inst|national natl nat|american amer|manufacturing mfg manuf|"
"technologies technology tech techs|systems system sys|group grp|management mgmt mgt|development dev devel|education educ edu|community comm cmty|school sch schl|academy acad acdmy|children childrens child|"
"saint st|brothers bros|and|first 1st|second 2nd|third 3rd|fourth 4th|fifth 5th|sixth 6th|seventh 7th|eighth 8th|ninth 9th|tenth 10th|head hd|start|early|village vlge vlg|retirement retrmnt retmt|"
"daycare|preschool presch|elementary elem|metropolitan metro|church ch|hospital hosp|laboratory labs lab laboratories|industries industry ind indus|enterprises enterprise ent|engineering engr eng|"
"communications communication comms|solutions solution|consulting consultants consultant|holdings holding hldgs|products product prod|electronics electronic elec|general gen|government govt gov|hotel hotels|"
"insurance ins|investments investment inv|library lib|medical med|resources resource|restaurant rest|society soc|transportation transport trans|youth|board brd|public pub";

/* Given names and their short and sister forms, first the full one. A name may stand in several groups. */
static const char nicks[] =
"abigail abby abbie gail|abraham abe abram bram|adelaide addie della heidi|agnes aggie nessie|albert al bert bertie elbert|alexander alex alec alick sandy sander alexandre alasdair alistair|alexandra alex sandra lexie sasha|"
"alfred al alf alfie fred freddie|alice allie ally elsie|alan allan allen al|amelia amy millie emily|andrew andy drew andreas andre|angela angie|ann anne anna annie nan nancy hannah nina anita|anthony tony antony anton|"
"antoinette toni nettie|archibald archie baldie|arthur art artie|augustus gus august augie|barbara barb babs barbie|bartholomew bart|beatrice bea trixie beatrix|benjamin ben benny benjy|bernard bernie barney|bertram bert|"
"bridget biddy bridie|bradley brad|caroline carrie carol lina caroline caro|catherine cathy kate katie kathy kit kitty cath catharine katherine kathryn katharine kathleen cait karen|cecilia cissy celia|charles charlie chas chuck chaz carl karl|"
"charlotte lottie charlie lotta|chester chet|christian chris|christina chris tina chrissie christine kirsten|christopher chris kit christo topher|clarence clare|clifford cliff|constance connie|cornelius neil con corny|cynthia cindy|"
"daniel dan danny|david dave davey davy dai|deborah deb debbie debra|dennis denny den denis|donald don donny|dorothy dot dottie dolly dora thea|douglas doug|edgar ed eddie|edmund ed eddie ned ted|edward ed eddie ned ted teddy eduard|"
"edwin ed eddie ned|eleanor nell nellie ellie nora ella elinor lenore helen|elizabeth liz lizzie beth betty betsy eliza bess bessie elsie libby lisa liza lily elisabeth isabel|ellen nell nellie ella helen|emily em emmy millie|"
"emma em emmy|ernest ernie|esther essie hester|ethel effie|eugene gene|evelyn eve evie lyn|ezekiel zeke|florence flo florrie flossie|frances fran fanny frankie francie|francis frank fran frankie|franklin frank|frederick fred freddie freddy fritz frederic rick|"
"gabriel gabe|gabrielle gaby|geoffrey geoff jeff jeffrey|george geo georgie jorge|georgina georgie gina|gerald gerry jerry|gertrude gert gertie trudy|gilbert gil bert|gregory greg gregg|gwendolyn gwen wendy|harold harry hal|"
"harriet hattie hatty|harrison harry|helen nell nellie ellen lena|henrietta etta hettie hetty|henry harry hank hal harri|herbert herb bert bertie|herman harman|horace horry|howard howie|hubert bert hugh|hugh hughie huw hugo|ian iain|"
"ignatius iggy nate|irene rena|isaac ike zac|isabella bella isabel isobel ella belle izzy|isaiah|jacob jake jacques|jacqueline jackie|james jim jimmy jamie jem jas jimmie seamus hamish|jane jenny janie janet jean joan|janet jan jenny|"
"jasper jap|jean jeannie jane|jemima mima|jennifer jen jenny jenn|jeremiah jerry jeremy|jerome jerry|jessica jess jessie|joan joanie|joanna jo joanne|john jack johnny jock johnnie jon ian sean hans juan johan|jonathan jon jonny nathan|joseph joe joey jos jo josef giuseppe jose|"
"josephine jo josie|joshua josh|joyce joy|judith judy|julia julie jill|julian jule|juliana julie|katherine kate katie kathy kitty kay|kenneth ken kenny|laurence larry laurie lawrence lars|leonard len lenny leo|leopold leo|leslie les|lewis lew louis lou louie ludwig|"
"lillian lily lil lilian|louisa lou louie louise|lucille lucy|lucy lu|lydia liddy|mabel may|madeline maddie maddy madeleine|magdalene maggie lena|malcolm mal|margaret maggie meg peggy peg marge madge daisy greta margie marjorie rita mags margery|maria mary marie mia|"
"marion mary|mark marc marcus|martha mattie patty|martin marty martyn|mary molly polly may mamie marie maria minnie|matilda tilly mattie maud|matthew matt mat matty|maurice morris morry|maximilian max|melissa mel missy|michael mike mick micky mickey mitch michel mikey|"
"mildred millie|millicent millie|minerva minnie|mitchell mitch|montague monty|mordecai mort|morgan|moses mo|nancy nan ann|natalie nat|nathaniel nat nate nathan|nicholas nick nicky nic nicolas colin klaus|nicola nicky nikki nicole|norman norm|oliver ollie noll|olivia liv livvy|"
"oscar ossie|oswald ossie oz|pamela pam|patience pat|patricia pat patty trish tricia|patrick pat paddy|paul paulie pablo|pauline polly|penelope penny|percival percy|peter pete pierre|philip phil pip phillip|philippa pip pippa|phoebe|prudence prue|rachel rae|ralph rafe|raymond ray|"
"rebecca becky becca|reginald reg reggie|richard dick rick ricky rich richie dickie ricardo|robert bob bobby rob robbie bert robin bobbie rupert|roberta bobbie|roderick rod roddy|rodney rod|roger rodge hodge|roland rolly rowland|ronald ron ronnie|rosalind roz|rosamund rose|rose rosie|"
"rudolph rudy|russell russ|ruth ruthie|samantha sam sammy|samson sam|samuel sam sammy|sandra sandy|sarah sally sadie sara|sebastian seb|sidney sid sydney syd|silas si|silvester|simon si|sophia sophie|stanley stan|stephanie steph|stephen steve steven stevie stefan esteban|"
"stuart stu stewart|susan sue susie suzy susanna susannah suzanne|sylvester sly|tabitha tabby|terence terry|theodore ted teddy theo|theodora dora|theresa terry tess tessa teresa|thomas tom tommy thom tomas|timothy tim timmy|tobias toby|ursula|valentine val|valerie val|vanessa|veronica ronnie|"
"victor vic|victoria vicky tori vic|vincent vince vinny|violet vi|virginia ginny|vivian viv|walter walt wally wat|wilfred wilf fred will wilford|wilhelmina mina minnie willie|william will bill billy willie willy liam wm gwilym guillermo wilhelm bil wil|winifred win winnie freda|winston|zachary zach zack";

static const char titles[] =
"mr mrs ms miss dr prof professor sir lady lord rev reverend hon capt captain col colonel major gen general jr sr esq phd md mba dame messrs the 先生 女士 小姐 总 经理 总经理 老师 主任 董事长 教授 博士 医生 总监 老板 同志";

static const char freemail[] =
"qq.com 163.com 126.com sina.com sina.cn sohu.com yeah.net foxmail.com 139.com 189.cn 21cn.com tom.com aliyun.com gmail.com googlemail.com yahoo.com yahoo.co.uk yahoo.com.au yahoo.com.cn ymail.com hotmail.com hotmail.co.uk outlook.com "
"live.com live.cn msn.com icloud.com me.com mac.com aol.com gmx.com gmx.de gmx.net web.de t-online.de mail.com mail.ru yandex.ru protonmail.com proton.me zoho.com orange.fr free.fr laposte.net wanadoo.fr libero.it btinternet.com "
"sky.com bigpond.com bigpond.net.au optusnet.com.au comcast.net verizon.net att.net sbcglobal.net cox.net naver.com daum.net hanmail.net rediffmail.com vip.qq.com vip.163.com vip.sina.com";

static const char stops[] = "the of and for a an in at de la le les der die das und et y e&";

/* clang-format on */

static const LexList lists[] = {
	{CRM_LEX_PROVINCE, 1, provinces}, {CRM_LEX_CITY, 1, cities},       {CRM_LEX_FORM, 1, forms},
	{CRM_LEX_TRADE, 0, trades},       {CRM_LEX_BRANCH, 0, branches},   {CRM_LEX_SURNAME, 0, surnames},
	{CRM_LEX_LEGAL, 1, legal},        {CRM_LEX_ABBREV, 1, abbrevs},    {CRM_LEX_NICK, 1, nicks},
	{CRM_LEX_TITLE, 0, titles},       {CRM_LEX_FREEMAIL, 0, freemail}, {CRM_LEX_STOP, 0, stops},
};

typedef struct LexEntry
{
	uint64_t hash;
	int value;
	uint8_t kind;
} LexEntry;

#define LEX_SLOTS 16384
static LexEntry lex_table[LEX_SLOTS];
static int lex_ready = 0;

/* A word is found by its kind and a 64-bit hash; with some 4,000 words a false hit has odds of 1e-12. */
static uint64_t
lex_hash(CrmLexKind kind, const uint32_t *word, size_t len)
{
	uint64_t h = UINT64_C(0x9E3779B97F4A7C15) * (uint64_t) (kind + 1);

	for (size_t i = 0; i < len; i++)
	{
		h ^= word[i];
		h *= UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
	}
	return h | 1;
}

/* Enters one word; a word may occur several times with different values. */
static void
lex_add(CrmLexKind kind, const uint32_t *word, size_t len, int value)
{
	uint64_t h = lex_hash(kind, word, len);
	size_t i = (size_t) (h >> 20) % LEX_SLOTS;

	while (lex_table[i].hash != 0)
	{
		if (lex_table[i].hash == h && lex_table[i].value == value)
			return;
		i = (i + 1) % LEX_SLOTS;
	}
	lex_table[i].hash = h;
	lex_table[i].value = value;
	lex_table[i].kind = (uint8_t) kind;
}

/* The id of a syllable written in letters, 0 if there is none. */
static int
syllable_id(const uint32_t *word, size_t len)
{
	for (int i = 1; i < crm_syllable_count; i++)
	{
		const char *s = crm_syllable[i];
		size_t k = 0;

		while (k < len && s[k] != '\0' && (uint32_t) (unsigned char) s[k] == word[k])
			k++;
		if (k == len && s[k] == '\0')
			return i;
	}
	return 0;
}

/* Fills the table from the lists. */
static void
lex_build(void)
{
	uint32_t word[64];

	for (size_t l = 0; l < sizeof(lists) / sizeof(lists[0]); l++)
	{
		const char *p = lists[l].words;
		int group = 1;
		int place = 1;

		while (*p != '\0')
		{
			size_t len = 0;

			while (*p == ' ')
				p++;
			while (*p != '\0' && *p != ' ' && *p != '|' && len < 64)
				p += crm_utf8_next(p, 8, &word[len++]);
			if (len > 0)
				lex_add(lists[l].kind, word, len, lists[l].numbered ? group : place++);
			if (*p == '|')
			{
				group++;
				p++;
			}
		}
	}
	for (const char *p = readings; *p != '\0';)
	{
		uint32_t name[8];
		size_t n = 0;
		size_t len = 0;

		while (*p != ' ' && n < 8)
			p += crm_utf8_next(p, 8, &name[n++]);
		p++;
		while (*p != '\0' && *p != '|' && len < 64)
			p += crm_utf8_next(p, 8, &word[len++]);
		if (*p == '|')
			p++;
		lex_add(CRM_LEX_READING, name, n, syllable_id(word, len));
	}
	lex_ready = 1;
}

/* All values of a word, at most max; returns how many. */
int
crm_lex_find_all(CrmLexKind kind, const uint32_t *word, size_t len, int *values, int max)
{
	uint64_t h;
	size_t i;
	int n = 0;

	if (len == 0 || len > 24)
		return 0;
	if (!lex_ready)
		lex_build();
	h = lex_hash(kind, word, len);
	for (i = (size_t) (h >> 20) % LEX_SLOTS; lex_table[i].hash != 0; i = (i + 1) % LEX_SLOTS)
		if (lex_table[i].hash == h && lex_table[i].kind == kind && n < max)
			values[n++] = lex_table[i].value;
	return n;
}

/* The first value of a word, 0 if the list lacks it. */
int
crm_lex_find(CrmLexKind kind, const uint32_t *word, size_t len)
{
	int value = 0;

	crm_lex_find_all(kind, word, len, &value, 1);
	return value;
}

/* The first word of a group of a numbered list, as a pointer into the list; it ends at a blank or '|'. */
const char *
crm_lex_group_head(CrmLexKind kind, int group)
{
	for (size_t l = 0; l < sizeof(lists) / sizeof(lists[0]); l++)
	{
		const char *p = lists[l].words;

		if (lists[l].kind != kind || !lists[l].numbered)
			continue;
		for (int g = 1; g < group && p != NULL; g++)
		{
			p = strchr(p, '|');
			if (p != NULL)
				p++;
		}
		return p;
	}
	return NULL;
}
